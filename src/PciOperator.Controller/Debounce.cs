using System.Threading.Channels;

namespace PciOperator.Controller;

/// <summary>Does something once, a while after it was asked for any number of times.</summary>
internal sealed class Debounce(TimeSpan delay, TimeProvider time, Func<CancellationToken, Task> action)
{
    private readonly Channel<bool> _asked = Channel.CreateBounded<bool>(
        new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite }
    );

    public Debounce(TimeSpan delay, TimeProvider time, Action action)
        : this(
            delay,
            time,
            _ =>
            {
                action();
                return Task.CompletedTask;
            }
        ) { }

    public void Trigger() => _asked.Writer.TryWrite(true);

    public async Task RunAsync(CancellationToken ct)
    {
        while (true)
        {
            await _asked.Reader.WaitToReadAsync(ct);
            await Task.Delay(delay, time, ct);
            _asked.Reader.TryRead(out _);
            await action(ct);
        }
    }
}
