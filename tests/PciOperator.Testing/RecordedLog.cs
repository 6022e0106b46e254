using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;

namespace PciOperator.Testing;

/// <summary>What programs log, in order.</summary>
public sealed class RecordedLog : ILogger
{
    private readonly ConcurrentQueue<(LogLevel Level, string Text, Exception? Exception)> _entries = new();

    /// <summary>Called with each sentence when it is logged.</summary>
    public event Action<LogLevel, string>? Heard;

    /// <summary>The sentences of every level, without exceptions.</summary>
    public IEnumerable<string> Lines => _entries.Select(e => e.Text);

    /// <summary>What is called an error, each with its exception if it has one.</summary>
    public IEnumerable<string> Errors =>
        _entries.Where(e => e.Level >= LogLevel.Error).Select(e => e.Exception is null ? e.Text : $"{e.Text} {e.Exception}");

    /// <summary>Forgets what was logged.</summary>
    public void Clear() => _entries.Clear();

    /// <inheritdoc/>
    public IDisposable? BeginScope<TState>(TState state)
        where TState : notnull => null;

    /// <inheritdoc/>
    public bool IsEnabled(LogLevel logLevel) => true;

    /// <inheritdoc/>
    public void Log<TState>(
        LogLevel logLevel,
        EventId eventId,
        TState state,
        Exception? exception,
        Func<TState, Exception?, string> formatter
    )
    {
        ArgumentNullException.ThrowIfNull(formatter);
        string text = formatter(state, exception);
        _entries.Enqueue((logLevel, text, exception));
        Heard?.Invoke(logLevel, text);
    }
}
