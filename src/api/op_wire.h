/* The form of an operation on the unix socket, shared by the server (local.c) and the verbs
 * (cmd/door.c).
 *
 *   POST /op/NAME        one line of JSON (the arguments), then the bytes of the input file if any
 *   answer               frames: type, 16 hex digits of length, '\n', bytes
 *                        'o' result bytes, 'n' notes for people, 'e' the end: {"rc":0} or
 *                        {"rc":code,"message":text}; without an end the answer was cut */
#ifndef PD_API_OP_WIRE_H
#define PD_API_OP_WIRE_H

enum { PD_OP_FRAME_HEAD = 18 };
#define PD_OP_SOCKET "podium.sock"

#endif
