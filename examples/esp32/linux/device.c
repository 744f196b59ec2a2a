/* The device on Linux, with libmosquitto: to try it without a board, and what the test runs. Like ESP-IDF's client,
 * libmosquitto sends again by itself what is not acknowledged when it has connected again.
 *
 * device HOST PORT ID PASSWORD_FILE CA_FILE SECONDS
 */

#define _POSIX_C_SOURCE 200809L

#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "readings.h"

#ifndef RETRY_SECONDS
#define RETRY_SECONDS 30
#endif

static struct readings readings;
static bool is_connected;
static int64_t paused_until_ms;

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void on_connect(struct mosquitto *client, void *data, int reason)
{
    (void)client, (void)data;
    is_connected = reason == 0;
    fprintf(stderr, "broker: %s\n", mosquitto_reason_string(reason));
}

static void on_disconnect(struct mosquitto *client, void *data, int reason)
{
    (void)client, (void)data;
    is_connected = false;
    fprintf(stderr, "broker: disconnected: %s\n", mosquitto_reason_string(reason));
}

/* MQTT 5 says in its PUBACK whether the broker took the message. 0x10 is that nobody is subscribed: ingestd has never
 * been connected, or has lost its session, and the message is gone. */
static void on_publish(struct mosquitto *client, void *data, int message_id, int reason,
                       const mosquitto_property *properties)
{
    (void)client, (void)data, (void)properties;
    if (reason == 0) {
        readings_acknowledged(&readings, message_id);
        return;
    }
    if (now_ms() >= paused_until_ms) /* once, also if all that is under way is refused */
        fprintf(stderr, "not sent: %s; it stays here and is sent again\n", mosquitto_reason_string(reason));
    readings_given_up(&readings, message_id);
    paused_until_ms = now_ms() + RETRY_SECONDS * 1000;
}

static void publish(struct mosquitto *client, const char *meter_id)
{
    char topic[128], payload[READINGS_PAYLOAD_SIZE];
    struct reading *reading;

    snprintf(topic, sizeof topic, "meters/%s/telemetry", meter_id);
    while (is_connected && now_ms() >= paused_until_ms && (reading = readings_next(&readings)) != NULL) {
        int length = readings_payload(reading, meter_id, payload);

        if (mosquitto_publish_v5(client, &reading->message_id, topic, length, payload, 1, false, NULL) != 0) {
            reading->message_id = 0;
            break;
        }
    }
}

/* Replace this: what the device measures. A cumulative register loses no energy if a reading gets lost. */
static double kwh_register(int64_t at_ms)
{
    return (double)(at_ms % (int64_t)3600000000000) / 3600000; /* 1 kW, all the time */
}

static void measure(int64_t at_ms)
{
    char timestamp[READINGS_TIMESTAMP_SIZE];

    readings_add(&readings, at_ms, kwh_register(at_ms), 230);
    readings_timestamp(at_ms, timestamp);
    puts(timestamp);
    fflush(stdout);
}

static struct mosquitto *new_client(const char *id, const char *password_file, const char *ca_file)
{
    struct mosquitto *client;
    char password[128] = "";
    FILE *file = fopen(password_file, "r");

    if (file == NULL) {
        perror("PASSWORD_FILE"); /* not its name: who gives the password itself does not want it printed */
        exit(1);
    }
    if (fgets(password, sizeof password, file) == NULL) {
        fprintf(stderr, "PASSWORD_FILE: there is no password in it\n");
        exit(1);
    }
    fclose(file);
    password[strcspn(password, "\r\n")] = '\0';
    mosquitto_lib_init();
    client = mosquitto_new(id, true, NULL);
    if (client == NULL || mosquitto_int_option(client, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5) != 0 ||
        mosquitto_username_pw_set(client, id, password) != 0 ||
        mosquitto_tls_set(client, ca_file, NULL, NULL, NULL, NULL) != 0) {
        fprintf(stderr, "libmosquitto does not take the settings\n");
        exit(1);
    }
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_disconnect_callback_set(client, on_disconnect);
    mosquitto_publish_v5_callback_set(client, on_publish);
    return client;
}

int main(int count, char **words)
{
    struct mosquitto *client;
    int64_t interval_ms, due_ms, tried_ms = 0;

    if (count != 7) {
        fprintf(stderr, "usage: device HOST PORT ID PASSWORD_FILE CA_FILE SECONDS\n");
        return 2;
    }
    interval_ms = (int64_t)(atof(words[6]) * 1000);
    if (interval_ms <= 0)
        return 2;
    client = new_client(words[3], words[4], words[5]);
    if (mosquitto_connect(client, words[1], atoi(words[2]), 30) != 0)
        fprintf(stderr, "no connection yet\n");
    due_ms = (now_ms() / interval_ms + 1) * interval_ms;
    for (;;) {
        int64_t now = now_ms();

        if (now >= due_ms) {
            measure(due_ms);
            due_ms = (now / interval_ms + 1) * interval_ms;
        }
        publish(client, words[3]);
        if (mosquitto_loop(client, 50, 1) != MOSQ_ERR_SUCCESS && now - tried_ms >= 1000) {
            tried_ms = now;
            mosquitto_reconnect(client);
        } else if (!is_connected) {
            nanosleep(&(struct timespec){.tv_nsec = 10 * 1000000}, NULL);
        }
    }
}
