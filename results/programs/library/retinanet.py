"""torchvision: RetinaNet trains a step and detects, Mask R-CNN detects."""

import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn, retinanet_resnet50_fpn

torch.manual_seed(0)
images = [torch.rand(3, 256, 256, device="cuda") for _ in range(2)]
targets = [{"boxes": torch.tensor([[20.0, 20, 120, 150]], device="cuda"), "labels": torch.tensor([1], device="cuda")}
           for _ in images]  # fmt: skip
size = {"weights": None, "weights_backbone": None, "num_classes": 5, "min_size": 256, "max_size": 256}
model = retinanet_resnet50_fpn(**size).cuda()
loss = sum(model(images, targets).values())
loss.backward()
print("loss", loss.item())
for network in (model, maskrcnn_resnet50_fpn(**size).cuda()):
    with torch.no_grad():
        print([len(found["boxes"]) for found in network.eval()(images)])
