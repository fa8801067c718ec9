"""torchvision: Faster R-CNN trains on two images, with a count of the regions that its second stage gets."""

import torch
from torchvision.models.detection import fasterrcnn_resnet50_fpn

torch.manual_seed(0)
model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=5, min_size=320, max_size=320).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
model.roi_heads.box_head.register_forward_pre_hook(lambda _, args: print("regions", args[0].shape[0]))
images = [torch.rand(3, 320, 320, device="cuda") for _ in range(2)]
boxes = torch.tensor([[20.0, 20, 120, 150], [100, 60, 260, 300], [5, 200, 90, 310]], device="cuda")
targets = [{"boxes": boxes[: n + 2], "labels": torch.arange(1, n + 3, device="cuda")} for n in range(2)]
for _ in range(2):
    losses = model(images, targets)
    loss = sum(losses.values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print({name: round(one.item(), 3) for name, one in losses.items()})
