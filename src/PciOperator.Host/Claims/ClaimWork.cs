using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>A claim's work: its watchdog makes the holding Stuck while a call of the kernel doesn't return.</summary>
internal sealed class ClaimWork
{
    private readonly ClaimTable _table;
    private readonly SharedReads _reads;
    private readonly TimeSpan _limit;
    private readonly string _uid;
    private readonly TaskCompletionSource<Holding?> _result = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly AssignmentRequest? _request;
    private Holding? _beforeStall;
    private string? _stalledAt;

    /// <param name="tools">Where the claim's holding is published, and the looks that claims share.</param>
    /// <param name="limit">How long one call of the kernel may take.</param>
    /// <param name="uid">The claim's.</param>
    /// <param name="request">What is prepared; null: a release.</param>
    public ClaimWork(ClaimTools tools, TimeSpan limit, string uid, AssignmentRequest? request)
    {
        (_table, _reads) = (tools.Table, tools.Reads);
        _limit = limit;
        _uid = uid;
        _request = request;
        Work = new BlockingWork(tools.Time, limit) { Stalled = OnStalled, Resumed = OnResumed };
    }

    public bool IsPrepare => _request is not null;

    public BlockingWork Work { get; }

    public Task<Holding?> Result => _result.Task;

    public void Start(Func<Holding?> body)
    {
        // Known before it runs, so that those who come together look together.
        if (IsPrepare)
            _reads.Usage.Expect(Work);
        else
            _reads.Processes.Expect(Work);
        Work.Start($"{(IsPrepare ? "prepare" : "release")} {_uid}", () => Run(body));
    }

    /// <summary>What is said of work that has no journal entry yet, and so no holding, while the host doesn't answer.</summary>
    public Holding Stalled(AssignmentRequest asked) =>
        new()
        {
            Request = asked,
            State = HoldingState.Stuck,
            Reason = HoldingReasons.WriteBlocked,
            Message =
                $"{string.Join(", ", asked.Devices.Select(d => d.Address))} can't be looked at: the kernel has not finished {_stalledAt ?? "an answer"} for {_limit.TotalSeconds:0} s. The work goes on when the kernel does.",
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

        _reads.Usage.Leave(Work);
        _reads.Processes.Leave(Work);
        if (failure is null)
            _table.Publish(_uid, holding);
        _table.End(_uid);
        if (failure is null)
            _result.TrySetResult(holding);
        else
            _result.TrySetException(failure);
    }

    private void OnStalled(string doing)
    {
        _stalledAt = doing;
        _beforeStall = _table.HoldingOf(_uid);
        if (_beforeStall is null && _request is not null)
        {
            // Nothing is in the journal yet; but the claim isn't free to go before the kernel has answered.
            _table.Publish(_uid, Stalled(_request));
        }
        else if (_beforeStall is not null)
        {
            _table.Publish(
                _uid,
                _beforeStall with
                {
                    State = HoldingState.Stuck,
                    Reason = HoldingReasons.WriteBlocked,
                    Message =
                        $"The kernel has not finished {doing} for {_limit.TotalSeconds:0} s; it can't be cancelled. A process may still use the device: stop it. The work goes on when the kernel does.",
                }
            );
        }
    }

    private void OnResumed() => _table.Publish(_uid, _beforeStall);
}
