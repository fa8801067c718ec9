"""A GradScaler with infinite gradients in one step: that step is skipped, the others are not."""

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
                      nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)).cuda()  # fmt: skip
optimizer, scaler = torch.optim.Adam(model.parameters()), torch.amp.GradScaler()
for step in range(5):
    images, labels = torch.randn(16, 3, 64, 64, device="cuda"), torch.randint(0, 10, (16,), device="cuda")
    with torch.autocast("cuda", torch.float16):
        loss = nn.functional.cross_entropy(model(images), labels)
    if not torch.isfinite(loss).all():
        raise SystemExit(f"step {step}: the loss is not finite")
    scaler.scale(loss).backward()
    if step == 3:
        model[-1].bias.grad.fill_(float("inf"))
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    states = int(optimizer.state[model[-1].bias].get("step", torch.zeros(())).item())
    print("step", step, "scale", scaler.get_scale(), "optimizer steps", states)
