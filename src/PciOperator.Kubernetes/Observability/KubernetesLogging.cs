using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.Extensions.Logging;

namespace PciOperator.Kubernetes;

/// <summary>How log lines look.</summary>
public enum LogFormat
{
    /// <summary>One JSON object a line: <c>ts</c>, <c>level</c>, <c>logger</c>, <c>msg</c>, the message's fields, <c>error</c>.</summary>
    Json,

    /// <summary>For people at a terminal.</summary>
    Text,
}

/// <summary>Logs as Kubernetes' own components write them with <c>--logging-format=json</c>: on standard error, a line each.</summary>
public static class KubernetesLogging
{
    /// <summary>Loggers that write to standard error.</summary>
    public static ILoggerFactory Create(LogLevel level = LogLevel.Information, LogFormat format = LogFormat.Json) =>
        Create(Console.OpenStandardError(), level, format);

    /// <summary>Loggers that write to a stream.</summary>
    public static ILoggerFactory Create(
        Stream output,
        LogLevel level = LogLevel.Information,
        LogFormat format = LogFormat.Json,
        TimeProvider? time = null
    ) => new LoggerFactory([new Provider(output, format, time ?? TimeProvider.System)], new LoggerFilterOptions { MinLevel = level });

    private sealed class Provider(Stream output, LogFormat format, TimeProvider time) : ILoggerProvider
    {
        private static readonly JsonWriterOptions Json = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
        private readonly Lock _lock = new();
        private readonly ArrayBufferWriter<byte> _line = new(512);

        public ILogger CreateLogger(string categoryName) => new LineLogger(this, categoryName);

        public void Write(
            LogLevel level,
            string logger,
            string message,
            IEnumerable<KeyValuePair<string, object?>>? fields,
            Exception? error
        )
        {
            lock (_lock)
            {
                _line.ResetWrittenCount();
                if (format == LogFormat.Json)
                    WriteJson(level, logger, message, fields, error);
                else
                    WriteText(level, logger, message, error);
                _line.Write("\n"u8);
                try
                {
                    output.Write(_line.WrittenSpan);
                    output.Flush();
                }
                catch (IOException)
                {
                    // Whoever read the log is gone; that is no reason to stop working.
                }
            }
        }

        private void WriteJson(
            LogLevel level,
            string logger,
            string message,
            IEnumerable<KeyValuePair<string, object?>>? fields,
            Exception? error
        )
        {
            using var json = new Utf8JsonWriter(_line, Json);
            json.WriteStartObject();
            json.WriteString("ts", time.GetUtcNow().UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture));
            json.WriteString("level", Name(level));
            json.WriteString("logger", logger);
            json.WriteString("msg", message);
            foreach ((string name, object? value) in fields ?? [])
            {
                if (name != "{OriginalFormat}")
                    WriteField(json, name, value);
            }

            if (error is not null)
                json.WriteString("error", error.ToString());
            json.WriteEndObject();
        }

        private static void WriteField(Utf8JsonWriter json, string name, object? value)
        {
            json.WritePropertyName(JsonNamingPolicy.CamelCase.ConvertName(name));
            switch (value)
            {
                case null:
                    json.WriteNullValue();
                    break;
                case bool flag:
                    json.WriteBooleanValue(flag);
                    break;
                case int or long or short or byte or uint:
                    json.WriteNumberValue(Convert.ToInt64(value, CultureInfo.InvariantCulture));
                    break;
                case double number when double.IsFinite(number):
                    json.WriteNumberValue(number);
                    break;
                default:
                    json.WriteStringValue(Convert.ToString(value, CultureInfo.InvariantCulture));
                    break;
            }
        }

        private void WriteText(LogLevel level, string logger, string message, Exception? error)
        {
            Encoding.UTF8.GetBytes($"{time.GetLocalNow():HH:mm:ss.fff} {Name(level), -5} {logger}: {message}", _line);
            if (error is not null)
                Encoding.UTF8.GetBytes($"\n{error}", _line);
        }

        private static string Name(LogLevel level) =>
            level switch
            {
                LogLevel.Trace or LogLevel.Debug => "debug",
                LogLevel.Information => "info",
                LogLevel.Warning => "warn",
                _ => "error",
            };

        public void Dispose() { }
    }

    private sealed class LineLogger(Provider provider, string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel != LogLevel.None;

        public void Log<TState>(
            LogLevel logLevel,
            EventId eventId,
            TState state,
            Exception? exception,
            Func<TState, Exception?, string> formatter
        )
        {
            if (IsEnabled(logLevel))
            {
                provider.Write(
                    logLevel,
                    category,
                    formatter(state, exception),
                    state as IEnumerable<KeyValuePair<string, object?>>,
                    exception
                );
            }
        }
    }
}
