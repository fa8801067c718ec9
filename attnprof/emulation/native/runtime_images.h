/* Which architectures the kernels of one module were compiled for. */
#pragma once

typedef struct Images Images;

const Images *images_of(const void *fat_binary); /* what __cudaRegisterFatBinary is given */
int images_serve(const Images *images, int major, int minor);
