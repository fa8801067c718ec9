/* libcudart: reads the headers of a module's fat binary. A kernel that was not compiled for the emulated card then
   fails as it would on the real one.

   The wrapper is that of fatbinary_section.h in the CUDA toolkit. NVIDIA does not document the headers behind it.
   Their layout was found in torch's own libraries, and checked against torch.cuda.get_arch_list(): one header for
   the whole, then one for each image, with kind, header size, payload size and architecture at bytes 0, 4, 8 and
   28. A binary that does not fit this layout counts as compiled for every card. */
#include "runtime_images.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { WRAPPER_MAGIC = 0x466243b1, BINARY_MAGIC = 0xba55ed50, PTX = 1, CUBIN = 2, MAX_IMAGES = 32 };

typedef struct {
  int magic, version;
  const char *data;
  void *file_name;
} Wrapper;

typedef struct {
  uint32_t magic;
  uint16_t version, header_bytes;
  uint64_t bytes; /* of everything after this header */
} Header;

struct Images {
  int count, known;
  struct {
    int kind, architecture; /* 75 for compute capability 7.5 */
  } image[MAX_IMAGES];
};

const Images *images_of(const void *fat_binary) {
  Images *images = calloc(1, sizeof *images);
  const Wrapper *wrapper = fat_binary;
  if (wrapper->magic != WRAPPER_MAGIC) return images;
  Header whole;
  memcpy(&whole, wrapper->data, sizeof whole);
  if (whole.magic != BINARY_MAGIC) return images;
  const char *at = wrapper->data + whole.header_bytes, *end = at + whole.bytes;
  while (at < end && images->count < MAX_IMAGES) {
    uint16_t kind;
    uint32_t header_bytes, architecture;
    uint64_t payload_bytes;
    memcpy(&kind, at, sizeof kind);
    memcpy(&header_bytes, at + 4, sizeof header_bytes);
    memcpy(&payload_bytes, at + 8, sizeof payload_bytes);
    memcpy(&architecture, at + 28, sizeof architecture);
    if ((kind != PTX && kind != CUBIN) || header_bytes < 32 || payload_bytes > (uint64_t)(end - at)) return images;
    images->image[images->count].kind = kind;
    images->image[images->count++].architecture = architecture;
    at += header_bytes + payload_bytes;
  }
  images->known = at == end;
  return images;
}

/* CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility": a cubin runs on cards
   of the same major and the same or a later minor version; PTX can be compiled for any later card. */
int images_serve(const Images *images, int major, int minor) {
  if (!images || !images->known) return 1;
  for (int i = 0; i < images->count; i++) {
    int have = images->image[i].architecture, want = major * 10 + minor;
    if (images->image[i].kind == PTX ? have <= want : have / 10 == major && have <= want) return 1;
  }
  return 0;
}
