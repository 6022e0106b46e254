using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>A claim's work: its watchdog makes the holding Stuck while a call of the kernel doesn't return.</summary>
internal sealed class ClaimWork
{
    private readonly ClaimTable table;
    private readonly SharedReads reads;
    private readonly TimeSpan limit;
    private readonly string uid;
    private readonly TaskCompletionSource<Holding?> result = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly AssignmentRequest? request;
    private Holding? beforeStall;
    private string? stalledAt;

    /// <param name="tools">Where the claim's holding is published, and the looks that claims share.</param>
    /// <param name="limit">How long one call of the kernel may take.</param>
    /// <param name="uid">The claim's.</param>
    /// <param name="request">What is prepared; null: a release.</param>
    public ClaimWork(ClaimTools tools, TimeSpan limit, string uid, AssignmentRequest? request)
    {
        (table, reads) = (tools.Table, tools.Reads);
        this.limit = limit;
        this.uid = uid;
        this.request = request;
        Work = new BlockingWork(tools.Time, limit) { Stalled = OnStalled, Resumed = OnResumed };
    }

    public bool IsPrepare => request is not null;

    public BlockingWork Work { get; }

    public Task<Holding?> Result => result.Task;

    public void Start(Func<Holding?> body)
    {
        // Known before it runs, so that those who come together look together.
        if (IsPrepare)
            reads.Usage.Expect(Work);
        else
            reads.Processes.Expect(Work);
        Work.Start($"{(IsPrepare ? "prepare" : "release")} {uid}", () => Run(body));
    }

    /// <summary>What is said of work that has no journal entry yet, and so no holding, while the host doesn't answer.</summary>
    public Holding Stalled(AssignmentRequest asked) => new()
    {
        Request = asked,
        State = HoldingState.Stuck,
        Reason = HoldingReasons.WriteBlocked,
        Message = $"{string.Join(", ", asked.Devices.Select(d => d.Address))} can't be looked at: the kernel has not finished {stalledAt ?? "an answer"} for {limit.TotalSeconds:0} s. The work goes on when the kernel does.",
    };

    private void Run(Func<Holding?> body)
    {
        Holding? holding = null;
        Exception? failure = null;
        try
        {
            holding = body();
        }
#pragma warning disable CA1031 // handed to whoever waits for the result
        catch (Exception e)
#pragma warning restore CA1031
        {
            failure = e;
        }

        reads.Usage.Leave(Work);
        reads.Processes.Leave(Work);
        if (failure is null)
            table.Publish(uid, holding);
        table.End(uid);
        if (failure is null)
            result.TrySetResult(holding);
        else
            result.TrySetException(failure);
    }

    private void OnStalled(string doing)
    {
        stalledAt = doing;
        beforeStall = table.HoldingOf(uid);
        if (beforeStall is null && request is not null)
        {
            // Nothing is in the journal yet; but the claim isn't free to go before the kernel has answered.
            table.Publish(uid, Stalled(request));
        }
        else if (beforeStall is not null)
        {
            table.Publish(uid, beforeStall with
            {
                State = HoldingState.Stuck,
                Reason = HoldingReasons.WriteBlocked,
                Message = $"The kernel has not finished {doing} for {limit.TotalSeconds:0} s; it can't be cancelled. A process may still use the device: stop it. The work goes on when the kernel does.",
            });
        }
    }

    private void OnResumed() => table.Publish(uid, beforeStall);
}
