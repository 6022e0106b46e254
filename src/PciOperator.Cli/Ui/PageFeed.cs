using System.Buffers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace PciOperator.Cli.Ui;

/// <summary>
/// What pages are told: items by kind and key, each as one Server-Sent Event that is made once for all pages. A page is told of everything
/// when it connects, then of what is different from what it was told: however slow it reads, nothing is queued for it.
/// </summary>
/// <param name="time">Clock.</param>
internal sealed class PageFeed(TimeProvider time)
{
    /// <summary>What changes within this time is told together.</summary>
    public static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(200);

    private static readonly byte[] Begin = Event("begin", "{}");
    private static readonly byte[] Ready = Event("ready", "{}");

    private readonly Lock _lock = new();
    private readonly Dictionary<(string Kind, string Key), (long Version, byte[] Event)> _items = [];
    private TaskCompletionSource _changed = NewChange();
    private long _version;
    private int _readers;

    /// <summary>How many pages are connected.</summary>
    public int Readers => Volatile.Read(ref _readers);

    /// <summary>An item is there, or is different.</summary>
    public void Set<T>(string kind, string key, T value, JsonTypeInfo<T> type)
    {
        byte[] made = Event(kind, key, value, type);
        lock (_lock)
        {
            if (_items.TryGetValue((kind, key), out (long, byte[] Event) known) && known.Event.AsSpan().SequenceEqual(made))
                return;
            _items[(kind, key)] = (++_version, made);
            Changed();
        }
    }

    /// <summary>An item is gone.</summary>
    public void Remove(string kind, string key)
    {
        lock (_lock)
        {
            if (!_items.Remove((kind, key)))
                return;
            _version++;
            Changed();
        }
    }

    /// <summary>
    /// Tells one page: <c>begin</c>; each item as an event of its kind, <c>{"key":…,"value":…}</c>; <c>ready</c>, after which what was not
    /// told is not there; then the items that change, and <c>gone</c> with the kind as value.
    /// </summary>
    /// <param name="body">Where to. It is flushed after each round.</param>
    /// <param name="ct">The page is gone, or the program ends.</param>
    public async Task SendAsync(Stream body, CancellationToken ct)
    {
        Interlocked.Increment(ref _readers);
        try
        {
            var told = new HashSet<(string, string)>();
            long upTo = 0;
            bool first = true;
            await body.WriteAsync(Begin, ct);
            while (true)
            {
                (IReadOnlyList<byte[]> events, upTo, Task changed) = Since(upTo, told);
                foreach (byte[] next in events)
                    await body.WriteAsync(next, ct);
                if (first)
                    await body.WriteAsync(Ready, ct);
                first = false;
                await body.FlushAsync(ct);
                await changed.WaitAsync(ct);
                await Task.Delay(Pause, time, ct);
            }
        }
        finally
        {
            Interlocked.Decrement(ref _readers);
        }
    }

    private (IReadOnlyList<byte[]> Events, long UpTo, Task Changed) Since(long upTo, HashSet<(string Kind, string Key)> told)
    {
        lock (_lock)
        {
            List<byte[]> events = [.. _items.Values.Where(i => i.Version > upTo).OrderBy(i => i.Version).Select(i => i.Event)];
            foreach ((string Kind, string Key) gone in told.Where(k => !_items.ContainsKey(k)).ToList())
            {
                events.Add(Event("gone", gone.Key, gone.Kind, PageJsonContext.Default.String));
                told.Remove(gone);
            }

            told.UnionWith(_items.Keys);
            return (events, _version, _changed.Task);
        }
    }

    /// <summary>Under the lock.</summary>
    private void Changed()
    {
        TaskCompletionSource changed = _changed;
        _changed = NewChange();
        changed.TrySetResult();
    }

    private static TaskCompletionSource NewChange() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private static byte[] Event(string kind, string data) => Encoding.UTF8.GetBytes($"event: {kind}\ndata: {data}\n\n");

    private static byte[] Event<T>(string kind, string key, T value, JsonTypeInfo<T> type)
    {
        var buffer = new ArrayBufferWriter<byte>();
        buffer.Write(Encoding.UTF8.GetBytes($"event: {kind}\ndata: "));
        // Without indentation JSON has no line breaks, and the usual encoder leaves no < > & as it is.
        using (var writer = new Utf8JsonWriter(buffer))
        {
            writer.WriteStartObject();
            writer.WriteString("key", key);
            writer.WritePropertyName("value");
            JsonSerializer.Serialize(writer, value, type);
            writer.WriteEndObject();
        }

        buffer.Write("\n\n"u8);
        return buffer.WrittenSpan.ToArray();
    }
}
