"""vit-pytorch: a ViT and a SimpleViT learn with patch dropout, label smoothing and a schedule."""

import torch
from vit_pytorch import SimpleViT, ViT

torch.manual_seed(0)
size = {"image_size": 96, "patch_size": 16, "num_classes": 10, "dim": 192, "depth": 4, "heads": 3, "mlp_dim": 384}
for model in (ViT(dropout=0.1, emb_dropout=0.1, **size).cuda(), SimpleViT(**size).cuda()):
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
    for _ in range(3):
        images, labels = torch.randn(16, 3, 96, 96, device="cuda"), torch.randint(0, 10, (16,), device="cuda")
        out = model(images)
        loss = torch.nn.functional.cross_entropy(out, labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step(loss)
    print("loss", loss.item(), "right", (out.argmax(-1) == labels).sum().item())
