/* Numbers out of text: rows of LIBSVM's format and of tables of delimited columns. */
#ifndef ZIPML_TEXT_H
#define ZIPML_TEXT_H
#include <stdint.h>

/* What ended a parse. */
enum {
  ZIPML_TEXT_OK = 0,
  ZIPML_TEXT_NUMBER = 1,  /* a label or value is no finite number */
  ZIPML_TEXT_ENTRY = 2,   /* an entry of a row is no index:value */
  ZIPML_TEXT_INDEX = 3,   /* an index is below the first or above the last */
  ZIPML_TEXT_ORDER = 4,   /* indices of a row do not ascend */
  ZIPML_TEXT_COLUMNS = 5, /* a row has another number of columns */
  ZIPML_TEXT_MISSING = 6, /* a label or value is missing, and that is not allowed */
  ZIPML_TEXT_QUOTE = 7,   /* a quote is not closed on its line, or something follows it */
};

/* Which missing numbers become NaN: bits of `missing`. */
enum { ZIPML_TEXT_MISSING_VALUES = 1, ZIPML_TEXT_MISSING_LABELS = 2 };

/* What becomes of a table's column, where it has no place among the numbers. */
enum { ZIPML_TEXT_LEFT_OUT = -1, ZIPML_TEXT_NAMES = -2 };

typedef struct {
  int64_t rows;    /* rows, blank lines and comments left out */
  int64_t entries; /* of all rows, LIBSVM only */
  int64_t lines;   /* line breaks before what is wrong, or all */
  int64_t begin;   /* what is wrong, as bytes of the text */
  int64_t end;
  int64_t column; /* of what is wrong, counted from 0; tables only */
  int32_t status;
  int32_t last_column; /* largest column, counted from 0; -1 for none; LIBSVM only */
} ZipmlText;

/* Rows `label index:value ..  # comment`; entries `qid:..` are left out. `columns` counts from 0
   where `first_index` is the first index of the format: 1, or 0; `last_index` is the largest that
   is taken, below 2^31 - 1. Room: labels and row_ends for one more entry than the text has line
   breaks, columns and values for as many as it has colons. */
void zipml_parse_libsvm(const char *text, int64_t size, int64_t first_index, int64_t last_index,
                        int32_t missing, double *labels, int64_t *row_ends, int32_t *columns,
                        double *values, ZipmlText *result);

/* Rows of `columns` fields with `delimiter` between them; a space stands for any white space. A
   field may be quoted. places[i] says where the number in field i goes in a row of `width` values,
   or that it is left out, or that it is text, of which `names` gets begin and end as bytes of the
   text, two entries a row. `label` is the place that is a label, or -1. Room: values for as many
   rows as the text has lines, and names, which may be null if no field is text. */
void zipml_parse_table(const char *text, int64_t size, char delimiter, int64_t columns,
                       const int32_t *places, int64_t width, int64_t label, int32_t missing,
                       double *values, int64_t *names, ZipmlText *result);

#endif
