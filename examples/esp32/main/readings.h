/* The readings of a device, kept until the broker has acknowledged them. Plain C99, no allocation, no library of MQTT:
 * the same code runs on a microcontroller and on Linux. It is not for several threads at once. */

#ifndef READINGS_H
#define READINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 1440 readings are a day of one a minute; each takes 32 bytes. */
#ifndef READINGS_KEPT
#define READINGS_KEPT 1440
#endif
#define READINGS_IN_FLIGHT 10
#define READINGS_PAYLOAD_SIZE 256
#define READINGS_TIMESTAMP_SIZE 32

struct reading {
    int64_t at_ms; /* Unix time in milliseconds: taken when it is measured, and never changed */
    double kwh_register;
    double voltage;
    int message_id; /* of the PUBLISH that is under way, or 0 */
    bool is_acknowledged;
};

struct readings {
    struct reading kept[READINGS_KEPT];
    size_t first;
    size_t count;
};

/* Keeps a reading. If there is no room, the oldest is given up; a register tells its energy all the same. */
void readings_add(struct readings *readings, int64_t at_ms, double kwh_register, double voltage);

/* The oldest reading that is not under way, or NULL: nothing to send, or READINGS_IN_FLIGHT are under way. */
struct reading *readings_next(struct readings *readings);

/* PUBACK: the broker has it. */
void readings_acknowledged(struct readings *readings, int message_id);

/* There will be no PUBACK, or it is a refusal: the reading is to be sent again. It keeps its timestamp, so what is sent
 * twice is stored once. */
void readings_given_up(struct readings *readings, int message_id);

/* Writes RFC 3339 in UTC. */
void readings_timestamp(int64_t at_ms, char text[READINGS_TIMESTAMP_SIZE]);

/* Writes the JSON object of the contract, and returns its length. */
int readings_payload(const struct reading *reading, const char *meter_id, char text[READINGS_PAYLOAD_SIZE]);

#endif
