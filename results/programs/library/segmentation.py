"""segmentation_models_pytorch: a U-Net on a ResNet-18 learns, with Dice and with scores from counts."""

import segmentation_models_pytorch as smp
import torch

torch.manual_seed(0)
model = smp.Unet("resnet18", encoder_weights=None, classes=3).cuda()
optimizer, dice = torch.optim.Adam(model.parameters()), smp.losses.DiceLoss("multiclass")
for _ in range(3):
    images, masks = torch.randn(4, 3, 128, 128, device="cuda"), torch.randint(0, 3, (4, 128, 128), device="cuda")
    out = model(images)
    loss = dice(out, masks)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    counts = smp.metrics.get_stats(out.argmax(1), masks, mode="multiclass", num_classes=3)
    print("loss", loss.item(), "iou", smp.metrics.iou_score(*counts, reduction="micro").item())
