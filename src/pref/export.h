/* Exports: streamed, byte-stable for a snapshot, honest about what is left out.
 *
 *   trl          {"id","prompt","chosen","rejected","strength"?,"votes","margin"?,"weight"?}
 *                the majority of each pair; ties and both-bad are counted, never made a preference
 *   trl-unpaired {"prompt","completion","label"}
 *   hh           {"chosen","rejected"} as whole transcripts
 *   raw          judgments.jsonl as docs/files.md has it
 *   csv          one row a judgment */
#ifndef PD_PREF_EXPORT_H
#define PD_PREF_EXPORT_H

#include "pref/bundle.h"
#include <stdio.h>

struct pd_export_options {
    const char *format;
    const char *split;    /* snapshot split or NULL */
    const char *question; /* NULL: the first ranking, else the first rating of a comparison */
    bool all_votes;       /* trl: one row a judgment instead of the majority */
    bool margin;          /* trl: add "margin": mean strength, else vote margin */
    int64_t min_votes;    /* 0 = 1 */
    double min_margin;
};
struct pd_export_report {
    int64_t records, judgments, rows;
    int64_t ties, both_bad, unjudged, identical, empty; /* pairs left out, by reason */
    int64_t duplicates; /* same record in several datasets: merged */
    int64_t orders;     /* judgments that gave an ordering */
    double one_order;   /* share of the most frequent ordering among them */
};
/* names: datasets or snapshots, merged by (external id or fields). What was left out is told to
 * `notes` in words; NULL: nothing is. */
PD_CHECKED enum pd_rc pd_export(struct pd_store *s, const char *const *names, size_t n,
                                const struct pd_export_options *o, FILE *out, FILE *notes,
                                struct pd_export_report *report, struct pd_err *err);
/* The report as a JSON object. */
void pd_export_report_write(const struct pd_export_report *r, struct pd_jw *w);
bool pd_export_format_known(const char *format);
extern const char pd_export_formats[]; /* "trl|trl-unpaired|hh|raw|csv" */

#endif
