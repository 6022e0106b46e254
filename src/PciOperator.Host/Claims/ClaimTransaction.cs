using Microsoft.Extensions.Logging;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// One piece of work on one claim, over the journal and the kernel: what it takes it can give back, at the end of the claim or because
/// it can't be finished. Each step is safe to begin again after any interruption.
/// </summary>
internal sealed class ClaimTransaction
{
    private readonly ClaimTable _table;
    private readonly DeviceCleaning _cleaning;
    private readonly SharedReads _reads;
    private readonly string _stateDirectory;

    public ClaimTransaction(ClaimTools tools, BlockingWork work)
    {
        (_table, _cleaning, _reads, _stateDirectory) = (tools.Table, tools.Cleaning, tools.Reads, tools.StateDirectory);
        Work = work;
        Host = new WatchedFileSystem(tools.Files, work, _reads);
        Binder = new DeviceBinder(Host, work)
        {
            NotClean = (device, why) => _cleaning.Withhold(device, why, Host),
            Warn = message => tools.Logger.LogWarning("{Message}", message),
        };
    }

    /// <summary>The work, which the kernel may block.</summary>
    public BlockingWork Work { get; }

    /// <summary>The host, each call of which is watched by the work.</summary>
    public WatchedFileSystem Host { get; }

    /// <summary>Binds and restores the claim's devices, and reports VF settings that could not be restored.</summary>
    public DeviceBinder Binder { get; }

    /// <summary>Gives a claim's devices back.</summary>
    /// <returns>Null: nothing is held any more.</returns>
    public Holding? Release(string claimUid)
    {
        if (_table.EntryOf(claimUid) is not { } entry)
            return null;
        try
        {
            if (entry.BootId == _table.BootId)
            {
                if (entry.Stage is not (JournalStage.Releasing or JournalStage.Restoring))
                    Save(entry = entry with { Stage = JournalStage.Releasing });
                PublishReleasing(entry);
                if (Binder.FindUser(entry) is { } user)
                    return Held(entry, HoldingState.Releasing, HoldingReasons.InUse, $"Waiting: {user}.");
                _reads.Processes.Leave(Work);
                GiveBack(entry);
            }

            Forget(entry);
            return null;
        }
        catch (RefusalException e)
        {
            return Held(entry, HoldingState.Stuck, e.Reason, e.Message);
        }
        catch (HostIoException e)
        {
            return Held(
                entry,
                HoldingState.Releasing,
                IsOfStateFolder(e) ? HoldingReasons.JournalFailed : HoldingReasons.HostUnreadable,
                e.Message
            );
        }
    }

    /// <summary>Everything back as it was and the journal cleared: Rejected. When that fails too: Stuck.</summary>
    public Holding Undo(JournalEntry entry, RefusalException why)
    {
        try
        {
            if (entry.BootId == _table.BootId)
            {
                if (Binder.FindUser(entry) is { } user)
                    return Held(entry, HoldingState.Stuck, HoldingReasons.InUse, $"{why.Message} It can't be undone now: {user}.");
                GiveBack(entry);
            }

            Forget(entry);
            return HoldingFacts.Rejected(entry.Request, why.Reason, why.Message);
        }
        catch (Exception e) when (e is RefusalException or HostIoException)
        {
            return Held(entry, HoldingState.Stuck, HoldingReasons.RestoreFailed, $"{why.Message} Undoing it failed: {e.Message}");
        }
    }

    /// <summary>The claim's entry, on disk when it returns.</summary>
    public void Save(JournalEntry entry) => _table.Save(entry, Host);

    /// <summary>The claim as it stands.</summary>
    public Holding Held(JournalEntry entry, HoldingState state, string? reason = null, string? message = null) =>
        HoldingFacts.Of(entry, Host, state, reason, message);

    /// <summary>Whether something of the agent's own folder failed, and nothing of the kernel's.</summary>
    public bool IsOfStateFolder(HostIoException e) => e.Path.StartsWith(_stateDirectory + "/", StringComparison.Ordinal);

    /// <summary>Ends the work when nobody wants its result any more.</summary>
    /// <exception cref="RefusalException">InvalidRequest.</exception>
    public void StopIfAbandoned()
    {
        if (Work.Abandoned)
            throw new RefusalException(HoldingReasons.InvalidRequest, "The claim was released while it was being prepared.");
    }

    /// <summary>Nobody has the devices open any more: reset if somebody could have used them, then back as they were.</summary>
    private void GiveBack(JournalEntry entry)
    {
        // Once, and before the first device goes back: from then on the host uses it.
        if (
            entry.Stage != JournalStage.Restoring
            && entry.HandedOutIn == _table.BootId
            && entry.Devices.Any(d => d.Reset != ResetMode.Skip)
        )
        {
            _cleaning.CleanAfter(entry, Binder, Host, Work);
            Save(entry with { Stage = JournalStage.Restoring });
        }

        _cleaning.RestoreMethods(entry, Binder, Host, Work);
        Binder.Restore(entry, _cleaning.IsUnclean);

        // What is still ours must not be forgotten, whatever made it look like another device.
        if (Binder.StillBound(entry) is { } left)
            throw new RefusalException(HoldingReasons.RestoreFailed, left);
    }

    private void Forget(JournalEntry entry)
    {
        if (!entry.Used)
            _cleaning.UnmarkUsedOnce(entry, Host);
        _table.Remove(entry.ClaimUid, Host);
    }

    /// <summary>Says that a release begins; one that goes on says what it waits for until it knows better.</summary>
    private void PublishReleasing(JournalEntry entry)
    {
        if (_table.HoldingOf(entry.ClaimUid) is not { State: HoldingState.Releasing or HoldingState.Stuck })
            _table.Publish(entry.ClaimUid, Held(entry, HoldingState.Releasing));
    }
}
