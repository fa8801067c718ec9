"""denoising-diffusion-pytorch: its Trainer for two steps, with samples: `diffusion_trainer.py FOLDER_OF_IMAGES`."""

import sys

from denoising_diffusion_pytorch import GaussianDiffusion, Trainer, Unet

diffusion = GaussianDiffusion(Unet(dim=16, dim_mults=(1, 2, 4)), image_size=32, timesteps=20, sampling_timesteps=4)
settings = {"train_batch_size": 8, "gradient_accumulate_every": 2, "train_num_steps": 4, "save_and_sample_every": 2}
rest = {"num_samples": 4, "amp": True, "calculate_fid": False, "results_folder": "/tmp/diffusion_trainer"}
Trainer(diffusion, sys.argv[1], **settings, **rest).train()
