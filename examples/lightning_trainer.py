"""Train a binary network by the Trainer of Lightning, with binarizers that follow a schedule."""

import argparse

import lightning
import torch
import torch.nn.functional as F
import torchvision
from digits import accuracy, batches
from torch import Tensor, nn

import surge_mm


class BinaryClassifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = torchvision.models.resnet18(num_classes=10)
        # in the constructor: load_from_checkpoint builds the same binary model
        surge_mm.binarize(self.model, binary=dict(activation=dict(type='EDE')))

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)

    def on_train_batch_start(self, batch: list[Tensor], batch_idx: int) -> None:
        last = self.trainer.estimated_stepping_batches - 1
        surge_mm.set_progress(self, min(self.global_step / max(last, 1), 1.0))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main() -> nn.Module:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--steps', type=int, default=100)
    steps = parser.parse_args().steps

    model = BinaryClassifier()
    trainer = lightning.Trainer(max_epochs=1, logger=False, enable_checkpointing=False)
    trainer.fit(model, batches(steps))

    print(f'accuracy: {accuracy(model):.3f}')
    return model


if __name__ == '__main__':
    main()
