"""monai: a 3-D U-Net with DiceCE loss, a sliding window at validation and a Dice metric."""

import torch
from monai.inferers import sliding_window_inference
from monai.losses import DiceCELoss
from monai.metrics import DiceMetric
from monai.networks.nets import UNet

torch.manual_seed(0)
model = UNet(3, 1, 2, channels=(8, 16, 32), strides=(2, 2), num_res_units=1).cuda()
optimizer, loss_of = torch.optim.Adam(model.parameters()), DiceCELoss(to_onehot_y=True, softmax=True)
for _ in range(2):
    volume, label = torch.randn(2, 1, 32, 32, 32, device="cuda"), torch.randint(0, 2, (2, 1, 32, 32, 32), device="cuda")
    loss = loss_of(model(volume), label)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    out = sliding_window_inference(torch.randn(1, 1, 48, 48, 40, device="cuda"), (32, 32, 32), 2, model)
dice = DiceMetric(num_classes=2)
dice(out.argmax(1, keepdim=True), torch.randint(0, 2, (1, 1, 48, 48, 40), device="cuda"))
print("loss", loss.item(), tuple(out.shape), "dice", dice.aggregate().item())
