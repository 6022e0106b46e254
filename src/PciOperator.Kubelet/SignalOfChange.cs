namespace PciOperator.Kubelet;

/// <summary>A task that ends when something changes, for as many as wait for it. Who takes it before looking misses nothing.</summary>
internal sealed class SignalOfChange
{
    private TaskCompletionSource _next = New();

    /// <summary>Ends at the next change.</summary>
    public Task Next() => Volatile.Read(ref _next).Task;

    /// <summary>Something has changed.</summary>
    public void Raise() => Interlocked.Exchange(ref _next, New()).TrySetResult();

    private static TaskCompletionSource New() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
