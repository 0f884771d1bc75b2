/* Variance-optimal levels (docs/levels.md): plain C declarations, parsed by cffi. */
#ifndef ZIPML_LEVELS_H
#define ZIPML_LEVELS_H
#include <stdint.h>

#endif
