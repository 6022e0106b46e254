using System.Collections.Concurrent;

namespace PciOperator.Testing;

/// <summary>
/// Runs a test and all that it awaits on one thread, in order, so that "everything has run that can without the clock
/// moving" is a fact and not a guess. For code under test that neither uses other threads nor leaves its context.
/// </summary>
public sealed class SingleThread : SynchronizationContext
{
    private readonly BlockingCollection<(SendOrPostCallback Callback, object? State)> _queue = [];

    private SingleThread() { }

    /// <summary>Runs a test to its end.</summary>
    public static void Run(Func<SingleThread, Task> test)
    {
        SynchronizationContext? before = Current;
        var context = new SingleThread();
        SetSynchronizationContext(context);
        try
        {
            Task task = test(context);
            while (!task.IsCompleted)
            {
                if (!context._queue.TryTake(out (SendOrPostCallback Callback, object? State) next, TimeSpan.FromSeconds(30)))
                    throw new TimeoutException("The test waits for something that does not come.");
                next.Callback(next.State);
            }

            task.GetAwaiter().GetResult();
        }
        finally
        {
            SetSynchronizationContext(before);
        }
    }

    /// <summary>Completes when nothing else is left to run.</summary>
    public async Task SettleAsync()
    {
        do await Task.Yield();
        while (_queue.Count > 0);
    }

    public override void Post(SendOrPostCallback d, object? state) => _queue.Add((d, state));

    public override void Send(SendOrPostCallback d, object? state) =>
        throw new NotSupportedException("Nothing should block on this thread.");

    public override SynchronizationContext CreateCopy() => this;
}
