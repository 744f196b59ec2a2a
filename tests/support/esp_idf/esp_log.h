#pragma once
void log_line(const char *tag, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define ESP_LOGI(tag, ...) log_line(tag, __VA_ARGS__)
#define ESP_LOGW(tag, ...) log_line(tag, __VA_ARGS__)
