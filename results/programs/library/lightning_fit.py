"""Lightning: a fit with mixed precision, EarlyStopping, a metric of torchmetrics and validation."""

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

torch.manual_seed(0)
rows = [(torch.randn(3, 32, 32), n % 4) for n in range(128)]


class Classifier(lightning.LightningModule):
    """A small network of convolutions."""

    def __init__(self):
        super().__init__()
        features = (nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.net = nn.Sequential(*features, nn.Linear(16, 4))
        self.accuracy, self.matrix = MulticlassAccuracy(4), MulticlassConfusionMatrix(4)

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, _):
        out = self.net(batch[0])
        self.accuracy(out, batch[1])
        self.matrix.update(out, batch[1])
        self.log("accuracy", self.accuracy)
        self.log("loss", nn.functional.cross_entropy(out, batch[1]))

    def on_validation_epoch_end(self):
        print("samples counted", int(self.matrix.compute().sum()))
        self.matrix.reset()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


def loader():
    """Return batches of sixteen."""
    return torch.utils.data.DataLoader(rows, 16)


trainer = lightning.Trainer(
    max_epochs=5,
    accelerator="gpu",
    devices=1,
    precision="16-mixed",
    gradient_clip_val=1.0,
    callbacks=[EarlyStopping("loss", patience=2, check_finite=True)],
    logger=False,
    num_sanity_val_steps=0,
    enable_progress_bar=False,
    enable_checkpointing=False,
)
trainer.fit(Classifier(), loader(), loader())
print("epochs", trainer.current_epoch, "steps", trainer.global_step)
