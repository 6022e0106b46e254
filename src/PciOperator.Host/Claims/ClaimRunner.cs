namespace PciOperator.Host;

/// <summary>Runs the work on claims, each on a thread of its own. Whoever asks for what is under way already waits for that.</summary>
/// <param name="tools">What the work is done with.</param>
/// <param name="limit">How long one call of the kernel may take before the answer is Stuck.</param>
internal sealed class ClaimRunner(ClaimTools tools, TimeSpan limit)
{
    /// <inheritdoc cref="PassthroughHost.PrepareAsync"/>
    public async Task<Holding> PrepareAsync(AssignmentRequest request, CancellationToken ct)
    {
        if (Fault(request) is { } fault)
            return HoldingFacts.Rejected(request, HoldingReasons.InvalidRequest, fault);
        while (true)
        {
            WorkOrAnswer next = tools.Table.ToPrepare(request, () => new ClaimWork(tools, limit, request.ClaimUid, request));
            if (next.Work is not { } work)
                return next.Answer!;
            if (next.IsNew)
                work.Start(() => Prepare(request, work.Work));
            await work.Work.EndedOrStalled.WaitAsync(ct);
            if (!work.Work.Ended.IsCompleted)
                return tools.Table.HoldingOf(request.ClaimUid) ?? work.Stalled(request);
            if (work.IsPrepare)
                return (await work.Result)!;
        }
    }

    /// <inheritdoc cref="PassthroughHost.ReleaseAsync"/>
    public async Task<Holding?> ReleaseAsync(string claimUid, CancellationToken ct)
    {
        while (true)
        {
            WorkOrAnswer next = tools.Table.ToRelease(claimUid, () => new ClaimWork(tools, limit, claimUid, null));
            if (next.Work is not { } work)
                return next.Answer;
            if (next.IsNew)
                work.Start(() => new ClaimTransaction(tools, work.Work).Release(claimUid));
            await work.Work.EndedOrStalled.WaitAsync(ct);
            if (!work.Work.Ended.IsCompleted)
                return tools.Table.HoldingOf(claimUid);
            if (!work.IsPrepare)
                return await work.Result;
        }
    }

    private Holding Prepare(AssignmentRequest request, BlockingWork work)
    {
        using var preparation = new ClaimPreparation(tools, new ClaimTransaction(tools, work), request);
        return preparation.Run();
    }

    private static string? Fault(AssignmentRequest request)
    {
        if (!Journal.IsUid(request.ClaimUid))
            return $"'{request.ClaimUid}' is not a claim's UID.";
        if (request.Devices.Count == 0)
            return "The assignment names no device.";
        return request.Devices.GroupBy(d => d.Address).FirstOrDefault(g => g.Count() > 1) is { } twice
            ? $"The assignment names {twice.Key} twice."
            : null;
    }
}
