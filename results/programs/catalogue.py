"""The programs that run.py runs: public repositories as they are, and short scripts around public libraries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
_LIBRARY = HERE / "library"
_STAND_INS = str(HERE / "stand_ins.py")


@dataclass(frozen=True)
class Program:
    """A program, and how to run it.

    Attributes:
        name: its name in the tables.
        origin: its repository or package.
        folder: where it runs, below the folder of the checkouts.
        arguments: what follows `python`; DATA stands for the folder of random data.
        sized_by_values: whether sizes, or branches with memory behind them, come from values on the card.
        installed: whether `origin` is an installed package; else it is a checkout.
    """

    name: str
    origin: str
    folder: str
    arguments: tuple[str, ...]
    sized_by_values: bool = False
    installed: bool = False


def _checkout(name: str, origin: str, folder: str, command: str, sized_by_values: bool = False) -> Program:
    return Program(name, origin, folder, tuple(command.split()), sized_by_values)


def _library(name: str, origin: str, command: str, sized_by_values: bool = False) -> Program:
    script, *rest = command.split()
    return Program(name, origin, ".", (str(_LIBRARY / script), *rest), sized_by_values, installed=True)


_EXAMPLES = "pytorch/examples"

PROGRAMS: tuple[Program, ...] = (
    _checkout("mnist", _EXAMPLES, "examples/mnist", "main.py --epochs 1"),
    _checkout(
        "dcgan",
        _EXAMPLES,
        "examples/dcgan",
        "main.py --dataset fake --accel --niter 1 --dry-run --workers 1 --outf /tmp",
    ),
    _checkout("vae", _EXAMPLES, "examples/vae", "main.py --epochs 1"),
    _checkout("siamese", _EXAMPLES, "examples/siamese_network", "main.py --epochs 1 --dry-run"),
    _checkout(
        "imagenet",
        _EXAMPLES,
        "examples/imagenet",
        f"{_STAND_INS} main.py --dummy -a resnet18 -b 16 --epochs 1 -j 1 --gpu 0",
    ),
    _checkout(
        "word language model",
        _EXAMPLES,
        "examples/word_language_model",
        "main.py --accel --model Transformer --epochs 1 --emsize 64 --nhid 64 --log-interval 4",
        True,
    ),
    _checkout(
        "fast neural style",
        _EXAMPLES,
        "examples/fast_neural_style",
        "neural_style/neural_style.py train --dataset DATA/CelebA --save-model-dir /tmp --epochs 1 --accel"
        " --image-size 96 --batch-size 8 --log-interval 4",
    ),
    _checkout(
        "super resolution",
        _EXAMPLES,
        "examples/super_resolution",
        "main.py --upscale_factor 3 --batchSize 4 --testBatchSize 2 --nEpochs 1 --accel --threads 0",
        True,
    ),
    _checkout("gcn", _EXAMPLES, "examples/gcn", f"{_STAND_INS} main.py --epochs 20"),
    _checkout(
        "nanoGPT",
        "karpathy/nanoGPT",
        "nanoGPT",
        "train.py config/train_shakespeare_char.py --compile=False --max_iters=10 --eval_iters=2 --eval_interval=5"
        " --batch_size=16 --n_layer=4 --n_head=4 --n_embd=128 --block_size=128 --out_dir=/tmp/nanogpt",
    ),
    _checkout(
        "minGPT",
        "karpathy/minGPT",
        "minGPT",
        "projects/chargpt/chargpt.py --trainer.max_iters=11 --trainer.num_workers=0 --trainer.batch_size=8"
        " --model.model_type='gpt-nano' --system.work_dir='/tmp/mingpt'",
    ),
    _checkout(
        "timm train.py",
        "huggingface/pytorch-image-models",
        "pytorch-image-models",
        "train.py --data-dir DATA/classes --model resnet18 --epochs 1 -b 16 --num-classes 2 -j 1 --amp --img-size 96"
        " --output /tmp/timm --clip-grad 1.0 --model-ema --warmup-epochs 0 --cooldown-epochs 0",
    ),
    _checkout(
        "Pytorch-UNet",
        "milesial/Pytorch-UNet",
        "Pytorch-UNet",
        "train.py --epochs 1 --amp --batch-size 1 --scale 0.5 -v 25",
        True,
    ),
    _checkout(
        "SAGAN",
        "heykeetae/Self-Attention-GAN",
        "Self-Attention-GAN",
        "main.py --batch_size 8 --imsize 64 --dataset celeb --image_path DATA --adv_loss wgan-gp --total_step 4"
        " --log_step 100 --sample_step 2 --model_save_path /tmp/sagan --sample_path /tmp/sagan --log_path /tmp/sagan"
        " --attn_path /tmp/sagan",
    ),
    _checkout("Non-local", "AlexHex7/Non-local_pytorch", "Non-local_pytorch", "demo_MNIST_train.py"),
    _checkout(
        "WGAN-GP",
        "eriklindernoren/PyTorch-GAN",
        "PyTorch-GAN/implementations/wgan_gp",
        "wgan_gp.py --n_epochs 1 --n_cpu 1",
    ),
    _checkout(
        "DQN",
        "vwxyzjn/cleanrl",
        "cleanrl",
        "-m cleanrl.dqn --total-timesteps 600 --learning-starts 200 --buffer-size 500 --target-network-frequency 100",
    ),
    _checkout("PPO", "vwxyzjn/cleanrl", "cleanrl", "-m cleanrl.ppo --total-timesteps 1024", True),
    _checkout(
        "DETR",
        "facebookresearch/detr",
        "detr",
        "main.py --coco_path DATA/coco --epochs 1 --batch_size 2 --num_workers 0 --enc_layers 2 --dec_layers 2"
        " --num_queries 20",
        True,
    ),
    _checkout(
        "DDPM, Trainer",
        "lucidrains/denoising-diffusion-pytorch",
        "denoising-diffusion-pytorch",
        f"{_LIBRARY / 'diffusion_trainer.py'} DATA/many",
    ),
    _library("BERT, Trainer", "transformers", "bert_trainer.py", True),
    _library("GPT-2, generate", "transformers", "gpt2_generate.py", True),
    _library("Whisper", "transformers", "whisper_tiny.py", True),
    _library("LoRA", "peft", "lora.py", True),
    _library("diffusion", "diffusers", "diffusion.py"),
    _library("Faster R-CNN", "torchvision", "faster_rcnn.py", True),
    _library("RetinaNet, Mask R-CNN", "torchvision", "retinanet.py", True),
    _library("YOLOv8n", "ultralytics", "yolo.py DATA/yolo/data.yaml", True),
    _library("GCN and GAT", "torch_geometric", "graphs.py", True),
    _library("U-Net of smp", "segmentation_models_pytorch", "segmentation.py"),
    _library("ViT", "vit-pytorch", "vit.py"),
    _library("Lightning", "lightning", "lightning_fit.py", True),
    _library("DDP over gloo", "torch", "ddp_gloo.py", True),
    _library("DQN of torchrl", "torchrl", "dqn.py"),
    _library("TabNet", "pytorch-tabnet", "tabnet.py", True),
    _library("GradScaler", "torch", "grad_scaler.py", True),
    _library("3-D U-Net", "monai", "monai_window.py", True),
    _library("sentences", "torch", "sentence_lengths.py", True),
)
