/* The architectures that the kernels of one module were compiled for. */
#pragma once

typedef struct Images Images;

const Images *images_of(const void *fat_binary); /* takes the argument of __cudaRegisterFatBinary */
/* Returns 1 if a card of this compute capability can run the kernels, else 0. */
int images_serve(const Images *images, int major, int minor);
