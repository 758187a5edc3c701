// Copyright 2026 The kuavo_bag_converter maintainers
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

// Undoes the row filters of a PNG with one channel of 16 bits, which FFmpeg does slowly.
//
// A byte depends on its left neighbour, so a row alone cannot be computed in parallel. Eight rows
// can, along a diagonal: lane r of a vector is r pixels behind lane 0, so what it needs of the row
// above is what lane r - 1 had one step and two steps ago.

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if !defined(__GNUC__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "needs vectors of GCC or Clang, and little-endian numbers; without it FFmpeg does the work"
#endif

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
#define FASTEST __attribute__((target_clones("avx2", "default")))
#else
#define FASTEST
#endif
#define INLINE static inline __attribute__((always_inline))

#define LANES 8
typedef int16_t Vector __attribute__((vector_size(2 * LANES)));
typedef uint16_t Unsigned __attribute__((vector_size(2 * LANES)));

typedef struct {
  Vector left, up, up_left;  // what the filters of the lanes look at
  Vector average;
  int any_average;
} Filters;

INLINE Vector moved_up(Vector v) {
#ifdef __clang__
  return __builtin_shufflevector(v, v, 0, 0, 1, 2, 3, 4, 5, 6);
#else
  return __builtin_shuffle(v, (Vector){0, 0, 1, 2, 3, 4, 5, 6});
#endif
}

INLINE Vector magnitude(Vector v) {
  Vector sign = v >> 15;
  return (v ^ sign) - sign;
}

INLINE Vector chosen(Vector mask, Vector yes, Vector no) {
  return no ^ ((no ^ yes) & mask);
}

// Paeth's predictor; with zeros in place of what a filter does not look at it is that filter's.
INLINE Vector predicted(const Filters *f, Vector left, Vector up, Vector up_left) {
  Vector a = left & f->left, b = up & f->up, c = up_left & f->up_left;
  Vector from_left = b - c, from_up = a - c;
  Vector to_left = magnitude(from_left), to_up = magnitude(from_up);
  Vector to_both = magnitude(from_left + from_up);
  Vector paeth = chosen(to_up <= to_both, b, c);
  paeth = chosen((to_left <= to_up) & (to_left <= to_both), a, paeth);
  return f->any_average ? chosen(f->average, (left + up) >> 1, paeth) : paeth;
}

typedef struct {
  const uint8_t *rows[LANES];  // filtered bytes behind the byte of the filter
  uint16_t *pixels[LANES];
  const uint16_t *above;  // of the first row; NULL for zeros
  Filters filters;
  Vector pixel, high, low, up_high, up_low;  // of the step before
} Group;

// Compute the pixels of the lanes from first to last, of which lane r is at column step - r.
INLINE void diagonal(
  Group *g, Py_ssize_t step, int first, int last) {
  Vector raw = {0}, inside = {0};
  for (int r = first; r <= last; r++) {
    uint16_t value;
    memcpy(&value, g->rows[r] + 2 * (step - r), 2);
    raw[r] = (int16_t)value;
    inside[r] = -1;
  }
  Vector up = moved_up(g->pixel);
  up[0] = g->above != NULL && first == 0 ? (int16_t)g->above[step] : 0;
  Vector up_high = (up >> 8) & 255, up_low = up & 255;
  Vector high = predicted(&g->filters, g->high, up_high, g->up_high);
  Vector low = predicted(&g->filters, g->low, up_low, g->up_low);
  g->high = (high + (raw & 255)) & 255 & inside;
  g->low = (low + (raw >> 8)) & 255 & inside;
  g->up_high = up_high;
  g->up_low = up_low;
  g->pixel = (Vector)((Unsigned)g->high << 8) | g->low;
  for (int r = first; r <= last; r++) {
    g->pixels[r][step - r] = (uint16_t)g->pixel[r];
  }
}

FASTEST static int unfilter(
  const uint8_t *data, uint16_t *pixels, Py_ssize_t height, Py_ssize_t width, uint16_t *unused) {
  for (Py_ssize_t row = 0; row < height; row += LANES) {
    Group g = {.above = row > 0 ? pixels + (row - 1) * width : NULL};
    for (int r = 0; r < LANES; r++) {
      // Lanes behind the last row repeat it, for nobody.
      Py_ssize_t mine = row + r < height ? row + r : height - 1;
      const uint8_t *bytes = data + mine * (1 + 2 * width);
      g.rows[r] = bytes + 1;
      g.pixels[r] = row + r < height ? pixels + mine * width : unused;
      int filter = bytes[0];
      g.filters.left[r] = -(filter == 1 || filter == 4);
      g.filters.up[r] = -(filter == 2 || filter == 4);
      g.filters.up_left[r] = -(filter == 4);
      g.filters.average[r] = -(filter == 3);
      g.filters.any_average |= filter == 3;
      if (filter > 4) {
        return -1;
      }
    }
    for (Py_ssize_t step = 0; step < width + LANES - 1; step++) {
      int first = step < width ? 0 : (int)(step - width + 1);
      int last = step < LANES ? (int)step : LANES - 1;
      if (first == 0 && last == LANES - 1) {
        diagonal(&g, step, 0, LANES - 1);  // with constants, so that loops are unrolled
      } else {
        diagonal(&g, step, first, last);
      }
    }
  }
  return 0;
}

static PyObject *unfiltered(PyObject *self, PyObject *args) {
  (void)self;
  Py_buffer data, pixels;
  Py_ssize_t height, width;
  if (!PyArg_ParseTuple(args, "y*w*nn", &data, &pixels, &height, &width)) {
    return NULL;
  }
  uint16_t *unused = NULL;
  int done = -1;
  int fits = height > 0 && width > 0 && width < (1 << 24) && height < (1 << 24) &&
             data.len == height * (1 + 2 * width) && pixels.len == 2 * height * width &&
             (uintptr_t)pixels.buf % 2 == 0;
  if (!fits) {
    PyErr_SetString(PyExc_ValueError, "the buffers have other sizes");
  } else if ((unused = PyMem_Malloc(2 * width)) == NULL) {
    PyErr_NoMemory();
  } else {
    Py_BEGIN_ALLOW_THREADS;
    done = unfilter(data.buf, pixels.buf, height, width, unused);
    Py_END_ALLOW_THREADS;
    PyMem_Free(unused);
  }
  PyBuffer_Release(&data);
  PyBuffer_Release(&pixels);
  return PyErr_Occurred() ? NULL : PyBool_FromLong(done == 0);
}

static PyMethodDef methods[] = {
  {"unfilter", unfiltered, METH_VARARGS,
   "unfilter(data, pixels, height, width)\n--\n\n"
   "Write the pixels of inflated PNG rows, uint16; tell whether their filters are known."},
  {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
  PyModuleDef_HEAD_INIT, "png_rows", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_png_rows(void) { return PyModule_Create(&module); }
