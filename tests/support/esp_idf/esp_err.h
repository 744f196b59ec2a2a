#pragma once
typedef int esp_err_t;
#define ESP_OK 0
void abort_on_error(esp_err_t error);
#define ESP_ERROR_CHECK(call) abort_on_error(call)
