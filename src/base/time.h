/* Clocks and the one text form of a moment: RFC 3339 UTC with microseconds,
 * "2024-05-01T12:00:00.000000Z". */
#ifndef PD_BASE_TIME_H
#define PD_BASE_TIME_H

#include "base/str.h"

int64_t pd_time_mono_ns(void); /* steady */
int64_t pd_time_us(void);      /* microseconds since 1970 UTC */
void pd_time_format(int64_t us, char out[32]);
bool pd_time_parse(struct pd_str s, int64_t *us); /* RFC 3339, offset and fraction optional */
void pd_sleep_ms(int ms);

#endif
