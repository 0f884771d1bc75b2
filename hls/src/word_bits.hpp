// The width of a word is a build option: -DZIPML_WORD_BITS=64 (Zynq-7000), 128 (Zynq UltraScale+)
// or 512 (Alveo).
#pragma once

#ifndef ZIPML_WORD_BITS
#define ZIPML_WORD_BITS 64
#endif

#define ZIPML_WORD_BITS_LOG2 (ZIPML_WORD_BITS == 64 ? 6 : ZIPML_WORD_BITS == 128 ? 7 : 9)
