/* Files: whole reads with limits, line reading (plain or gzip), mmap, atomic replacement, locks.
 *
 * Nothing half-written: pd_out writes DIR/.NAME.tmp.PID, and commit does fsync, rename, fsync of
 * the folder. An abandoned writer removes its temporary file. */
#ifndef PD_BASE_FS_H
#define PD_BASE_FS_H

#include "base/str.h"
#include <stdio.h>
#include <sys/types.h>

bool pd_fs_exists(const char *path);
bool pd_fs_is_dir(const char *path);
PD_CHECKED enum pd_rc pd_fs_mkdirs(const char *path, mode_t mode, struct pd_err *err);
PD_CHECKED enum pd_rc pd_fs_remove_tree(const char *path, struct pd_err *err);
/* What was created, renamed and removed in the folder is so for good. */
PD_CHECKED enum pd_rc pd_fs_sync_folder(const char *dir, struct pd_err *err);
/* Appends the file to *out (initialised by the caller); PD_TOOBIG past max_bytes. */
PD_CHECKED enum pd_rc pd_fs_read(const char *path, size_t max_bytes, struct pd_buf *out,
                                 struct pd_err *err);
/* The umask takes from mode, as from that of any new file. */
PD_CHECKED enum pd_rc pd_fs_write_atomic(const char *path, struct pd_str bytes, mode_t mode,
                                         struct pd_err *err);

/* Read-only map of a whole file; of nothing but a regular one, and never waiting. */
struct pd_map_file {
    const unsigned char *ptr;
    size_t len;
};
PD_CHECKED enum pd_rc pd_map_file_open(struct pd_map_file *m, const char *path, struct pd_err *err);
void pd_map_file_close(struct pd_map_file *m);

/* Lines of a text file, "-" = stdin; gzip is detected by its first bytes. The line is without its
 * "\n" (and "\r"), lives until the next call, and may not be longer than max_line_bytes. */
struct pd_lines;
PD_CHECKED enum pd_rc pd_lines_open(struct pd_lines **out, const char *path, size_t max_line_bytes,
                                    struct pd_err *err);
/* PD_OK with *more=false at the end. */
PD_CHECKED enum pd_rc pd_lines_next(struct pd_lines *l, struct pd_str *line, bool *more,
                                    struct pd_err *err);
size_t pd_lines_number(const struct pd_lines *l); /* of the line last returned, from 1 */
const char *pd_lines_path(const struct pd_lines *l);
void pd_lines_close(struct pd_lines *l); /* accepts NULL */
/* Everything in a (maybe gzipped) file or stdin. */
PD_CHECKED enum pd_rc pd_fs_read_maybe_gzip(const char *path, size_t max_bytes, struct pd_buf *out,
                                            struct pd_err *err);

/* Atomic output file; path "-" is stdout (flushed at commit), a device or pipe is written to as it
 * is. */
struct pd_out {
    FILE *f;
    char *path, *tmp; /* tmp NULL for stdout, devices and pipes */
};
PD_CHECKED enum pd_rc pd_out_open(struct pd_out *o, const char *path, struct pd_err *err);
PD_CHECKED enum pd_rc pd_out_write(struct pd_out *o, struct pd_str bytes, struct pd_err *err);
PD_CHECKED enum pd_rc pd_out_commit(struct pd_out *o, struct pd_err *err);
void pd_out_abandon(struct pd_out *o); /* no-op after commit */
/* Removes the temporary files of path that killed processes left; those of live ones are locked. */
void pd_out_sweep(const char *path);

/* Exclusive advisory lock on path (created 0600), held until close or exit. PD_BUSY when taken;
 * the holder writes its pid into the file so that the message can name it. */
PD_CHECKED enum pd_rc pd_lock_open(int *fd, const char *path, struct pd_err *err);
void pd_lock_close(int fd);

#endif
