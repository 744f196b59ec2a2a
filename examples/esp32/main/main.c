/* The device on an ESP32, with ESP-IDF and its MQTT client. Change the four lines of "this device", and measure. */

#include <sys/time.h>

#include "esp_event.h"
#include "esp_log.h"
#include "esp_netif.h"
#include "esp_netif_sntp.h"
#include "freertos/FreeRTOS.h"
#include "freertos/queue.h"
#include "mqtt_client.h"
#include "nvs_flash.h"
#include "protocol_examples_common.h"
#include "sdkconfig.h"

#include "readings.h"

/* This device. Its account has the same name. */
#define METER_ID "meter-001"
#define PASSWORD "change-me"
#define BROKER "mqtts://broker.example:8883"
#define INTERVAL_MS 60000

#define TICK_MS 200

#ifndef CONFIG_MQTT_REPORT_DELETED_MESSAGES
#error "sdkconfig.defaults is not read: the client has to tell when it gives a message up"
#endif

/* The certificate of the broker's authority: main/ca.crt. */
extern const char ca_certificate[] asm("_binary_ca_crt_start");

static const char *const TAG = "device";
static struct readings readings;
static QueueHandle_t answers;

struct answer {
    int message_id;
    bool is_acknowledged;
};

/* The MQTT client calls this in a task of its own. Only the task of app_main uses the readings. There is one answer for
 * each message that is under way, so the queue never fills. */
static void on_event(void *argument, esp_event_base_t base, int32_t id, void *data)
{
    esp_mqtt_event_handle_t event = data;
    struct answer answer = {.message_id = event->msg_id, .is_acknowledged = id == MQTT_EVENT_PUBLISHED};

    (void)argument, (void)base;
    if (id == MQTT_EVENT_CONNECTED)
        ESP_LOGI(TAG, "connected");
    else if (id == MQTT_EVENT_DISCONNECTED)
        ESP_LOGW(TAG, "disconnected"); /* the client connects again, and sends again what is not acknowledged */
    else if (id == MQTT_EVENT_PUBLISHED || id == MQTT_EVENT_DELETED) /* PUBACK; or none for 30 s */
        xQueueSend(answers, &answer, 0);
}

static void publish(esp_mqtt_client_handle_t client)
{
    char payload[READINGS_PAYLOAD_SIZE];
    struct reading *reading;

    while ((reading = readings_next(&readings)) != NULL) {
        int length = readings_payload(reading, METER_ID, payload);
        int message_id = esp_mqtt_client_enqueue(client, "meters/" METER_ID "/telemetry", payload, length, 1, 0, true);

        if (message_id <= 0)
            return; /* there is no memory; it is tried again */
        reading->message_id = message_id;
    }
}

static int64_t now_ms(void)
{
    struct timeval now;

    gettimeofday(&now, NULL);
    return (int64_t)now.tv_sec * 1000 + now.tv_usec / 1000;
}

/* Replace this: what the device measures. A cumulative register loses no energy if a reading gets lost. */
static double kwh_register(int64_t at_ms)
{
    return (double)(at_ms % (int64_t)3600000000000) / 3600000; /* 1 kW, all the time */
}

static void connect_network(void)
{
    esp_sntp_config_t sntp = ESP_NETIF_SNTP_DEFAULT_CONFIG("pool.ntp.org");

    ESP_ERROR_CHECK(nvs_flash_init());
    ESP_ERROR_CHECK(esp_netif_init());
    ESP_ERROR_CHECK(esp_event_loop_create_default());
    ESP_ERROR_CHECK(example_connect());
    /* A reading without the right time would be refused. */
    ESP_ERROR_CHECK(esp_netif_sntp_init(&sntp));
    while (esp_netif_sntp_sync_wait(portMAX_DELAY) != ESP_OK)
        ESP_LOGW(TAG, "waiting for the time");
}

static esp_mqtt_client_handle_t start_client(void)
{
    const esp_mqtt_client_config_t config = {
        .broker.address.uri = BROKER,
        .broker.verification.certificate = ca_certificate,
        .credentials.username = METER_ID,
        .credentials.client_id = METER_ID,
        .credentials.authentication.password = PASSWORD,
        .session.keepalive = 30,
    };
    esp_mqtt_client_handle_t client = esp_mqtt_client_init(&config);

    ESP_ERROR_CHECK(esp_mqtt_client_register_event(client, MQTT_EVENT_ANY, on_event, NULL));
    ESP_ERROR_CHECK(esp_mqtt_client_start(client));
    return client;
}

void app_main(void)
{
    esp_mqtt_client_handle_t client;
    struct answer answer;
    int64_t due_ms;

    connect_network();
    answers = xQueueCreate(2 * READINGS_IN_FLIGHT, sizeof answer);
    client = start_client();
    due_ms = (now_ms() / INTERVAL_MS + 1) * INTERVAL_MS;
    for (;;) {
        if (xQueueReceive(answers, &answer, pdMS_TO_TICKS(TICK_MS)) == pdTRUE) {
            if (answer.is_acknowledged)
                readings_acknowledged(&readings, answer.message_id);
            else
                readings_given_up(&readings, answer.message_id);
        }
        if (now_ms() >= due_ms) {
            readings_add(&readings, due_ms, kwh_register(due_ms), 230);
            due_ms = (now_ms() / INTERVAL_MS + 1) * INTERVAL_MS;
        }
        publish(client);
    }
}
