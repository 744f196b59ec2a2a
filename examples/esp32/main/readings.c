#define _POSIX_C_SOURCE 200809L

#include "readings.h"

#include <stdio.h>
#include <time.h>

static struct reading *at(struct readings *readings, size_t place)
{
    return &readings->kept[(readings->first + place) % READINGS_KEPT];
}

static void drop_first(struct readings *readings)
{
    readings->first = (readings->first + 1) % READINGS_KEPT;
    readings->count--;
}

void readings_add(struct readings *readings, int64_t at_ms, double kwh_register, double voltage)
{
    if (readings->count == READINGS_KEPT)
        drop_first(readings);
    *at(readings, readings->count++) =
        (struct reading){.at_ms = at_ms, .kwh_register = kwh_register, .voltage = voltage};
}

struct reading *readings_next(struct readings *readings)
{
    int in_flight = 0;

    for (size_t place = 0; place < readings->count; place++) {
        struct reading *reading = at(readings, place);

        if (reading->is_acknowledged)
            continue;
        if (reading->message_id == 0)
            return reading;
        if (++in_flight == READINGS_IN_FLIGHT)
            break;
    }
    return NULL;
}

static struct reading *under_way(struct readings *readings, int message_id)
{
    for (size_t place = 0; message_id != 0 && place < readings->count; place++) {
        struct reading *reading = at(readings, place);

        if (reading->message_id == message_id)
            return reading;
    }
    return NULL;
}

void readings_acknowledged(struct readings *readings, int message_id)
{
    struct reading *reading = under_way(readings, message_id);

    if (reading != NULL) {
        reading->message_id = 0;
        reading->is_acknowledged = true;
    }
    while (readings->count > 0 && at(readings, 0)->is_acknowledged)
        drop_first(readings);
}

void readings_given_up(struct readings *readings, int message_id)
{
    struct reading *reading = under_way(readings, message_id);

    if (reading != NULL)
        reading->message_id = 0;
}

void readings_timestamp(int64_t at_ms, char text[READINGS_TIMESTAMP_SIZE])
{
    time_t seconds = (time_t)(at_ms / 1000);
    struct tm utc;
    size_t length;

    gmtime_r(&seconds, &utc);
    length = strftime(text, READINGS_TIMESTAMP_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + length, READINGS_TIMESTAMP_SIZE - length, ".%03dZ", (int)(at_ms % 1000));
}

int readings_payload(const struct reading *reading, const char *meter_id, char text[READINGS_PAYLOAD_SIZE])
{
    char timestamp[READINGS_TIMESTAMP_SIZE];

    readings_timestamp(reading->at_ms, timestamp);
    /* An identity has no character that JSON would have to escape. */
    return snprintf(text, READINGS_PAYLOAD_SIZE,
                    "{\"meterId\":\"%s\",\"kwhConsumedAcRegister\":%.4f,\"voltage\":%.1f,\"timestamp\":\"%s\"}",
                    meter_id, reading->kwh_register, reading->voltage, timestamp);
}
