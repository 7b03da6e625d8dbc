/* Imports: one file into one dataset, streamed, shape detected and named.
 *
 *   prompts  {"prompt"}              answers  {"prompt","answers":[...]}   (fields prompt, a, b, c
 * ...) pairs    {"prompt"?,"chosen","rejected"}   order of the two mixed by a hash; the preference
 * is a judgment of the placeholder labeler `imported` unless without_judgments label-studio  tasks
 * and exports (JSON array): Pairwise, Ranker, Rating, Choices, TextArea argilla  records as the
 * clients dump them      rows  fields of the dataset by name (jsonl, csv, tsv) A bad row is named
 * FILE:LINE (or item): reason. The first twenty are listed, nothing is stored, unless skip_bad. All
 * or nothing: one transaction. */
#ifndef PD_PREF_IMPORT_H
#define PD_PREF_IMPORT_H

#include "store/store.h"
#include <stdio.h>

struct pd_import_options {
    const char *dataset;   /* created when new */
    const char *workspace; /* NULL: default */
    const char *as;        /* shape by name, NULL = detect */
    const char *path;      /* to read; gzip too */
    const char *name;      /* to print in messages; NULL = path */
    bool skip_bad, without_judgments;
    bool publish;          /* a dataset made here */
    int64_t min_submitted; /* for a dataset made here; 0 = 1 */
    int64_t author_id;
};
struct pd_import_report {
    const char *shape; /* static */
    int64_t dataset_id;
    bool created; /* the dataset */
    int64_t rows, records, judgments, suggestions;
    int64_t bad;      /* rows left out (skip_bad) */
    int64_t existing; /* external id already there: left as it was */
    int64_t identical,
        empty;        /* records with equal answers, with an empty answer (imported, reported) */
    int64_t labelers; /* placeholder accounts made */
};
PD_CHECKED enum pd_rc pd_import(struct pd_store *s, const struct pd_import_options *o, FILE *notes,
                                struct pd_import_report *report, struct pd_err *err);
extern const char pd_import_shapes[]; /* "auto|answers|..." */

#endif
