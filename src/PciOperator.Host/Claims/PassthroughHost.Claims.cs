using Microsoft.Extensions.Logging;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>The work on one claim, from first look to last; each step is safe to begin again after any interruption.</summary>
public sealed partial class PassthroughHost
{
    private Holding Prepare(AssignmentRequest request, BlockingWork work)
    {
        var watched = new WatchedFileSystem(files, work, looks);
        DeviceBinder binder = NewBinder(watched, work);
        JournalEntry? before;
        lock (gate)
            before = entries.GetValueOrDefault(request.ClaimUid);
        if (before is not null && !before.IsFor(request))
        {
            return Held(before, watched, HoldingState.Stuck, HoldingReasons.AssignmentChanged,
                $"The claim holds {string.Join(", ", before.Devices.Select(d => d.Address))} here, and the assignment names {string.Join(", ", request.Devices.Select(d => d.Address))}: release it first.");
        }

        try
        {
            Reserve(request, before, watched, work);
        }
        catch (Exception e) when (e is RefusalException or HostIoException)
        {
            return Refuse(request, before, e, binder, watched, work);
        }

        PreBindChecks checks;
        JournalEntry intent;
        using var disks = new ExclusiveDisks();
        bool IsOurs(HostFunction f) => IsBoundFor(before, f);
        BindDriver? Administrators(HostFunction f) => request.Devices.FirstOrDefault(d => d.Address == f.Address && !d.Managed)?.Driver;
        try
        {
            guards.Consent = GuardConsent.Read(watched, stateDirectory);
            bool handedOut = before is { Stage: JournalStage.Prepared } && before.BootId == bootId;
            checks = PreBindChecks.Of(WithGroupsOf(before, request, watched), watched, handedOut, watched.Usage());
            checks = checks with { Devices = [.. checks.Devices.Select(twins.Tell)], Vfs = [.. checks.Vfs.Select(twins.Tell)] };
            if (handedOut)
            {
                string? user = binder.Verify(before!) is null ? null : binder.FindUser(before!);
                if (user is not null)
                    binder.RepairOverrides(before!);
                if (binder.Verify(before!) is not { } wrong)
                    return HeldPrepared(before!, watched);

                // Binding under a running guest would take away or reset what it works with.
                if (user is not null)
                    return Held(before!, watched, HoldingState.Stuck, HoldingReasons.NotBound, $"{wrong} It is bound again when nothing uses the claim's devices any more: {user}.");
            }

            if (before is not { Used: true })
                RefuseWithheld(request, checks, watched);
            foreach (GuardRefusal overridden in checks.CheckGuards(watched, guards, IsOurs, Administrators, disks))
                logger.LogWarning("Claim {Namespace}/{Name}: the guard {Guard} is overridden: {Sentence}", request.ClaimNamespace, request.ClaimName, overridden.Guard, overridden.Sentence);
            intent = Intent(request, before, checks, binder, watched);
        }
        catch (Exception e) when (e is RefusalException or HostIoException)
        {
            return Refuse(request, before, e, binder, watched, work);
        }

        try
        {
            Save(intent, watched);
        }
        catch (HostIoException e)
        {
            return Refuse(request, before, new RefusalException(HoldingReasons.JournalFailed, $"The journal can't be written: {e.Message}"), binder, watched, work);
        }

        try
        {
            checks.CheckGuardsAgain(watched, guards, IsOurs, Administrators, disks);
            looks.Usage.Leave(work);
        }
        catch (Exception e) when (e is RefusalException or HostIoException)
        {
            return Refuse(request, before, e, binder, watched, work);
        }

        Publish(request.ClaimUid, Held(intent, watched, HoldingState.Preparing));
        try
        {
            foreach (JournalDevice device in intent.Devices.Where(d => d.Managed))
            {
                StopIfAbandoned(work);
                if (checks.Devices.Any(f => f.Address == device.Address && f.Function.Type == DeviceType.Pf))
                {
                    binder.RemoveVfs(device.Address);
                    Forgive(checks.Vfs.Where(vf => vf.Function.ParentAddress == device.Address), watched);
                }

                Bind(device, binder, watched);
            }

            disks.Dispose();
            if (binder.Verify(intent) is { } wrong)
                throw new RefusalException(HoldingReasons.BindFailed, wrong);
            StopIfAbandoned(work);

            // Never under a guest: what was handed out in this boot was clean then.
            if (intent.HandedOutIn is null)
            {
                intent = CleanBefore(intent, checks, watched, work);
                ProveUsable(intent, watched, work);
            }

            StopIfAbandoned(work);
            MarkUsedOnce(intent, watched);
            JournalEntry prepared = intent with { Stage = JournalStage.Prepared, HandedOutIn = bootId, Used = true };
            Save(prepared, watched);
            return HeldPrepared(prepared, watched);
        }
        catch (Exception e) when (e is RefusalException or HostIoException)
        {
            disks.Dispose();
            RefusalException why = e as RefusalException ?? (e is HostIoException io && IsOfStateFolder(io)
                ? new RefusalException(HoldingReasons.JournalFailed, $"What must outlive the agent can't be written: {e.Message}")
                : new RefusalException(HoldingReasons.BindFailed, e.Message));
            if (intent.Devices.FirstOrDefault(d => binder.IsGone(d.Address)) is not { } gone)
                return Undo(intent, why, binder, watched, work);
            why = new RefusalException(HoldingReasons.DeviceGone, $"{gone.Address} left the bus while it was being bound.");
            return intent.HandedOutIn is null ? Undo(intent, why, binder, watched, work) : Keep(intent, why, binder, watched, work);
        }
    }

    private bool IsOfStateFolder(HostIoException e) => e.Path.StartsWith(stateDirectory + "/", StringComparison.Ordinal);

    private void Bind(JournalDevice device, DeviceBinder binder, WatchedFileSystem watched)
    {
        try
        {
            binder.Bind(device);
        }
        catch (RefusalException e) when (e.Reason == HoldingReasons.BindFailed && !binder.IsGone(device.Address))
        {
            RememberNotBound(device, e, watched);
            throw;
        }

        if (memory.Find(Key(device), device.Address)?.NotBound is not null)
            Remember(watched, device, r => r with { NotBound = null });
    }

    private Holding? Release(string claimUid, BlockingWork work)
    {
        var watched = new WatchedFileSystem(files, work, looks);
        DeviceBinder binder = NewBinder(watched, work);
        JournalEntry entry;
        lock (gate)
            entry = entries[claimUid];
        try
        {
            if (entry.BootId == bootId)
            {
                if (entry.Stage is not (JournalStage.Releasing or JournalStage.Restoring))
                    Save(entry = entry with { Stage = JournalStage.Releasing }, watched);
                PublishReleasing(entry, watched);
                if (binder.FindUser(entry) is { } user)
                    return Held(entry, watched, HoldingState.Releasing, HoldingReasons.InUse, $"Waiting: {user}.");
                looks.Processes.Leave(work);
                GiveBack(entry, binder, watched, work);
            }

            Forget(entry, watched);
            return null;
        }
        catch (RefusalException e)
        {
            return Held(entry, watched, HoldingState.Stuck, e.Reason, e.Message);
        }
        catch (HostIoException e)
        {
            return Held(entry, watched, HoldingState.Releasing, IsOfStateFolder(e) ? HoldingReasons.JournalFailed : HoldingReasons.HostUnreadable, e.Message);
        }
    }

    /// <summary>
    /// Reserves the devices, their groups and their PFs for the claim, before they are examined: from then on no other claim and no
    /// change of VFs can come between.
    /// </summary>
    /// <exception cref="RefusalException">OwnedByOther or Busy.</exception>
    private void Reserve(AssignmentRequest request, JournalEntry? before, WatchedFileSystem watched, BlockingWork work)
    {
        while (true)
        {
            (Reservations.Share wanted, bool isWhole) = Reservations.Share.Of(request, watched);
            BlockingWork? resizing;
            lock (gate)
            {
                // A device that isn't there, or not wholly, may be a VF that is about to appear.
                resizing = reservations.Resizing
                    .Where(r => isWhole ? wanted.Addresses.Contains(r.Key) || wanted.Parents.Contains(r.Key) : !r.Value.IsStalled)
                    .Select(r => r.Value).FirstOrDefault();
                if (resizing is null)
                {
                    if (reservations.Conflict(request.ClaimUid, wanted) is var (owner, what))
                        throw new RefusalException(HoldingReasons.OwnedByOther, $"The claim {owner} holds {what} here.");

                    // What can't be seen now is what it was.
                    reservations.Reserve(request.ClaimUid, isWhole || before is null ? wanted : wanted.And(Reservations.Share.Of(before)));
                    return;
                }
            }

            if (resizing.IsStalled)
                throw new RefusalException(HoldingReasons.Busy, "The number of VFs of this device's PF is being changed, and the kernel has not finished.");
            looks.Usage.Leave(work);
            resizing.EndedOrStalled.Wait();
            looks.Usage.Expect(work);
            StopIfAbandoned(work);
        }
    }

    /// <summary>
    /// The number of a group means something within one boot only: a claim that was held before a reboot is held to whole
    /// groups, whatever their numbers are now; one that is held in this boot, to the group that it had then, unless it left the
    /// bus and came back since: then it has a new one.
    /// </summary>
    private AssignmentRequest WithGroupsOf(JournalEntry? before, AssignmentRequest request, WatchedFileSystem watched) => before is null
        ? request
        : request with
        {
            Devices = [.. request.Devices.Select(d => d with { IommuGroup = before.BootId == bootId && !IsForgotten(d.Address, watched) ? before.Devices.FirstOrDefault(h => h.Address == d.Address)?.IommuGroup : null })],
        };

    /// <summary>What is about to be done and how to undo it; what an earlier attempt of this boot found stays.</summary>
    private JournalEntry Intent(AssignmentRequest request, JournalEntry? before, PreBindChecks checks, DeviceBinder binder, WatchedFileSystem watched)
    {
        bool sameBoot = before?.BootId == bootId;
        return new JournalEntry
        {
            FormatVersion = JournalEntry.CurrentFormat,
            BootId = bootId!,
            Stage = JournalStage.Preparing,
            ClaimUid = request.ClaimUid,
            ClaimNamespace = request.ClaimNamespace,
            ClaimName = request.ClaimName,
            Since = before?.Since ?? time.GetUtcNow(),
            HandedOutIn = sameBoot && before!.HandedOutIn == bootId && before.Stage is JournalStage.Preparing or JournalStage.Prepared ? bootId : null,
            Used = before?.Used == true,
            Devices =
            [
                .. request.Devices.Zip(checks.Devices, (asked, found) =>
                {
                    JournalDevice? known = before?.Devices.FirstOrDefault(d => d.Address == asked.Address);
                    int? vfs = found.NumVfs is > 0 ? found.NumVfs : known?.OriginalNumVfs;
                    string target = asked.Managed ? known is not null && sameBoot ? known.TargetDriver : Target(asked, binder, watched) : found.Driver!;
                    var device = new JournalDevice(asked, target)
                    {
                        StableId = sameBoot && known?.StableId is { } id && IsStillOurs(found) ? id : found.Function.StableId,
                        IommuGroup = found.Function.IommuGroup,
                        ParentAddress = found.Function.ParentAddress,
                        OriginalDriver = found.Driver,
                        OriginalOverride = found.DriverOverride,
                        OriginalNumVfs = vfs,
                        OriginalResetMethods = sameBoot && known is not null ? known.OriginalResetMethods : watched.ReadText($"{SysfsPaths.Device(asked.Address)}/reset_method"),
                        NotReset = sameBoot ? known?.NotReset : null,
                    };
                    device = WithVfs(device, found, known, sameBoot, checks.Vfs, binder);
                    if (known is null || found.Driver is not null && found.Driver != device.TargetDriver && !sameBoot)
                        return device;
                    return device with { OriginalDriver = known.OriginalDriver, OriginalOverride = sameBoot ? known.OriginalOverride : device.OriginalOverride };
                }),
            ],
        };
    }

    private static string Target(DeviceToTake device, DeviceBinder binder, WatchedFileSystem watched) => device.Driver switch
    {
        BindDriver.PciStub => binder.EnsureDriver(VfioDrivers.PciStub),
        BindDriver.Auto => binder.EnsureDriver(VfioVariant.For(watched, device.Address)),
        _ => binder.EnsureDriver(VfioDrivers.VfioPci),
    };

    private bool IsBoundFor(JournalEntry? entry, HostFunction function) =>
        entry is not null && entry.BootId == bootId
        && entry.Devices.Any(d => d.Address == function.Address && d.TargetDriver == function.Driver);

    /// <summary>
    /// It can't be prepared. A claim that was Prepared in this boot keeps its devices, since a guest may be using them;
    /// otherwise what was done is undone.
    /// </summary>
    private Holding Refuse(AssignmentRequest request, JournalEntry? before, Exception why, DeviceBinder binder, WatchedFileSystem watched, BlockingWork work)
    {
        RefusalException refusal = why as RefusalException ?? new RefusalException(HoldingReasons.HostUnreadable, why.Message);
        if (before is null)
        {
            try
            {
                // A journal write that failed may have left its file.
                Clear(request.ClaimUid, watched);
            }
            catch (HostIoException e)
            {
                lock (gate)
                    before = entries.GetValueOrDefault(request.ClaimUid);
                if (before is not null)
                    return Held(before, watched, HoldingState.Stuck, HoldingReasons.JournalFailed, $"{refusal.Message} Its journal entry can't be removed: {e.Message}");
            }

            return Rejected(request, refusal.Reason, refusal.Message);
        }

        return before.Stage == JournalStage.Prepared && before.BootId == bootId
            ? Held(before, watched, HoldingState.Stuck, refusal.Reason, refusal.Message)
            : Undo(before, refusal, binder, watched, work);
    }

    /// <summary>
    /// A claim whose device left while it was bound again keeps its devices, as one whose device leaves at any other moment: the
    /// next looks say what is missing and when it is back.
    /// </summary>
    private Holding Keep(JournalEntry intent, RefusalException why, DeviceBinder binder, WatchedFileSystem watched, BlockingWork work)
    {
        try
        {
            JournalEntry kept = intent with { Stage = JournalStage.Prepared };
            Save(kept, watched);
            return Held(kept, watched, HoldingState.Stuck, why.Reason, why.Message);
        }
        catch (HostIoException)
        {
            return Undo(intent, why, binder, watched, work);
        }
    }

    /// <summary>Everything back as it was and the journal cleared: Rejected. When that fails too: Stuck.</summary>
    private Holding Undo(JournalEntry entry, RefusalException why, DeviceBinder binder, WatchedFileSystem watched, BlockingWork work)
    {
        try
        {
            if (entry.BootId == bootId)
            {
                if (binder.FindUser(entry) is { } user)
                    return Held(entry, watched, HoldingState.Stuck, HoldingReasons.InUse, $"{why.Message} It can't be undone now: {user}.");
                GiveBack(entry, binder, watched, work);
            }

            Forget(entry, watched);
            return Rejected(entry.Request, why.Reason, why.Message);
        }
        catch (Exception e) when (e is RefusalException or HostIoException)
        {
            return Held(entry, watched, HoldingState.Stuck, HoldingReasons.RestoreFailed, $"{why.Message} Undoing it failed: {e.Message}");
        }
    }

    /// <summary>Nobody has the devices open any more: reset if somebody could have used them, then back as they were.</summary>
    private void GiveBack(JournalEntry entry, DeviceBinder binder, WatchedFileSystem watched, BlockingWork work)
    {
        // Once, and before the first device goes back: from then on the host uses it.
        if (entry.Stage != JournalStage.Restoring && entry.HandedOutIn == bootId && entry.Devices.Any(d => d.Reset != ResetMode.Skip))
        {
            CleanAfter(entry, binder, watched, work);
            Save(entry with { Stage = JournalStage.Restoring }, watched);
        }

        Run(watched, work).RestoreMethods(entry.Devices, binder.IsThere);
        binder.Restore(entry, d => memory.NotCleanOf(Key(d), d.Address)?.BootId == bootId);

        // What is still ours must not be forgotten, whatever made it look like another device.
        if (binder.StillBound(entry) is { } left)
            throw new RefusalException(HoldingReasons.RestoreFailed, left);
    }

    private void Forget(JournalEntry entry, WatchedFileSystem watched)
    {
        if (!entry.Used)
            memory.Unmark(watched, entry.ClaimUid);
        Clear(entry.ClaimUid, watched);
    }

    private void Save(JournalEntry entry, WatchedFileSystem watched)
    {
        // Known before it is on disk: a write that failed may have left its file.
        lock (gate)
        {
            entries[entry.ClaimUid] = entry;
            reservations.Reserve(entry.ClaimUid, Reservations.Share.Of(entry));
        }

        journal.Save(watched, entry);
    }

    private void Clear(string claimUid, WatchedFileSystem watched)
    {
        journal.Remove(watched, claimUid);
        lock (gate)
        {
            entries.Remove(claimUid);
            reservations.Free(claimUid);
        }
    }

    /// <summary>Says that a release begins; one that goes on says what it waits for until it knows better.</summary>
    private void PublishReleasing(JournalEntry entry, WatchedFileSystem watched)
    {
        bool begins;
        lock (gate)
            begins = holdings.GetValueOrDefault(entry.ClaimUid) is not { State: HoldingState.Releasing or HoldingState.Stuck };
        if (begins)
            Publish(entry.ClaimUid, Held(entry, watched, HoldingState.Releasing));
    }

    private static void StopIfAbandoned(BlockingWork work)
    {
        if (work.Abandoned)
            throw new RefusalException(HoldingReasons.InvalidRequest, "The claim was released while it was being prepared.");
    }

    private static Holding HeldPrepared(JournalEntry entry, WatchedFileSystem watched) =>
        Held(entry, watched, HoldingState.Prepared, NotResetReason(entry), NotResetMessage(entry));

    private static string? NotResetReason(JournalEntry entry) =>
        entry.Stage == JournalStage.Prepared && entry.Devices.Any(d => d.NotReset is not null) ? HoldingReasons.NotReset : null;

    private static string? NotResetMessage(JournalEntry entry) => NotResetReason(entry) is null ? null : string.Join(' ', entry.Devices.Select(d => d.NotReset).OfType<string>());

    private static Holding Held(JournalEntry entry, IHostFileSystem files, HoldingState state, string? reason = null, string? message = null) =>
        new() { Request = entry.Request, State = state, Reason = reason, Message = message, Devices = Devices(entry, files) };
}
