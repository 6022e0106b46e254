using Microsoft.Extensions.Logging;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// A claim gets its devices. Until <see cref="JournalTheIntent"/> has returned nothing of the host is changed (but for a driver that is
/// loaded); from then on what was done is finished or undone.
/// </summary>
internal sealed class ClaimPreparation : IDisposable
{
    private readonly ClaimTools tools;
    private readonly ClaimTransaction transaction;
    private readonly AssignmentRequest request;
    private readonly string boot;
    private readonly ExclusiveDisks disks = new();

    // What an earlier attempt has written; null: none has.
    private readonly JournalEntry? before;
    private PreBindChecks checks = null!;
    private JournalEntry intent = null!;

    public ClaimPreparation(ClaimTools tools, ClaimTransaction transaction, AssignmentRequest request)
    {
        (this.tools, this.transaction, this.request) = (tools, transaction, request);
        boot = tools.Table.BootId;
        before = tools.Table.EntryOf(request.ClaimUid);
    }

    private WatchedFileSystem Host => transaction.Host;

    /// <summary>Handed out in this boot: a guest may be using the devices.</summary>
    private bool IsHandedOut => before is { Stage: JournalStage.Prepared } && before.BootId == boot;

    public void Dispose() => disks.Dispose();

    /// <summary>All of it, in order.</summary>
    public Holding Run()
    {
        if (before is not null && !before.IsFor(request))
            return OtherDevices(before);
        try
        {
            Reserve();
            Examine();
            if (IsHandedOut && AsItStands(before!) is { } holding)
                return holding;
            RefuseWhatIsWithheldOrGuarded();
            intent = new ClaimIntent(transaction, boot, tools.Time).Of(request, before, checks);
            JournalTheIntent();
            AskTheGuardsAgain();
        }
        catch (Exception e) when (e is RefusalException or HostIoException)
        {
            return Refuse(e);
        }

        tools.Table.Publish(request.ClaimUid, transaction.Held(intent, HoldingState.Preparing));
        try
        {
            BindDevices();
            VerifyBindings();
            CleanAndProve();
            return HandOut();
        }
        catch (Exception e) when (e is RefusalException or HostIoException)
        {
            disks.Dispose();
            return GiveUp(e);
        }
    }

    private Holding OtherDevices(JournalEntry held) => transaction.Held(held, HoldingState.Stuck, HoldingReasons.AssignmentChanged,
        $"The claim holds {string.Join(", ", held.Devices.Select(d => d.Address))} here, and the assignment names {string.Join(", ", request.Devices.Select(d => d.Address))}: release it first.");

    /// <summary>
    /// Reserves the devices, their groups and their PFs for the claim, before they are examined: from then on no other claim and no
    /// change of VFs can come between.
    /// </summary>
    /// <exception cref="RefusalException">OwnedByOther or Busy.</exception>
    private void Reserve()
    {
        while (true)
        {
            (Reservations.Share wanted, bool isWhole) = Reservations.Share.Of(request, Host);
            if (tools.Table.TryReserve(request.ClaimUid, wanted, isWhole, before) is not { } resizing)
                return;
            if (resizing.IsStalled)
                throw new RefusalException(HoldingReasons.Busy, "The number of VFs of this device's PF is being changed, and the kernel has not finished.");
            tools.Reads.Usage.Leave(transaction.Work);
            resizing.EndedOrStalled.Wait();
            tools.Reads.Usage.Expect(transaction.Work);
            transaction.StopIfAbandoned();
        }
    }

    /// <summary>Looks at the devices, which have to be the ones that were asked for, and at how the host uses them.</summary>
    private void Examine()
    {
        tools.Guards.Consent = GuardConsent.Read(Host, tools.StateDirectory);
        checks = PreBindChecks.Of(WithGroupsOfBefore(), Host, IsHandedOut, Host.Usage());
        checks = checks with { Devices = [.. checks.Devices.Select(tools.Twins.Tell)], Vfs = [.. checks.Vfs.Select(tools.Twins.Tell)] };
    }

    /// <summary>A claim that was handed out: well as it is, or in use; null: it has to be bound again.</summary>
    private Holding? AsItStands(JournalEntry held)
    {
        string? user = transaction.Binder.Verify(held) is null ? null : transaction.Binder.FindUser(held);
        if (user is not null)
            transaction.Binder.RepairOverrides(held);
        if (transaction.Binder.Verify(held) is not { } wrong)
            return HoldingFacts.Prepared(held, Host);

        // Binding under a running guest would take away or reset what it works with.
        return user is null ? null
            : transaction.Held(held, HoldingState.Stuck, HoldingReasons.NotBound, $"{wrong} It is bound again when nothing uses the claim's devices any more: {user}.");
    }

    private void RefuseWhatIsWithheldOrGuarded()
    {
        if (before is not { Used: true })
            tools.Withheld.Refuse(request, checks, Host);
        foreach (GuardRefusal overridden in checks.CheckGuards(Host, tools.Guards, IsOurs, Administrators, disks))
            tools.Logger.LogWarning("Claim {Namespace}/{Name}: the guard {Guard} is overridden: {Sentence}", request.ClaimNamespace, request.ClaimName, overridden.Guard, overridden.Sentence);
    }

    private void JournalTheIntent()
    {
        try
        {
            transaction.Save(intent);
        }
        catch (HostIoException e)
        {
            throw new RefusalException(HoldingReasons.JournalFailed, $"The journal can't be written: {e.Message}");
        }
    }

    /// <summary>Loading a module and writing the journal take their time: the guards have the last word before the first write.</summary>
    private void AskTheGuardsAgain()
    {
        checks.CheckGuardsAgain(Host, tools.Guards, IsOurs, Administrators, disks);
        tools.Reads.Usage.Leave(transaction.Work);
    }

    private void BindDevices()
    {
        foreach (JournalDevice device in intent.Devices.Where(d => d.Managed))
        {
            transaction.StopIfAbandoned();
            if (checks.Devices.Any(f => f.Address == device.Address && f.Function.Type == DeviceType.Pf))
            {
                transaction.Binder.RemoveVfs(device.Address);
                tools.Cleaning.Forgive(checks.Vfs.Where(vf => vf.Function.ParentAddress == device.Address), Host);
            }

            Bind(device);
        }
    }

    private void Bind(JournalDevice device)
    {
        try
        {
            transaction.Binder.Bind(device);
        }
        catch (RefusalException e) when (e.Reason == HoldingReasons.BindFailed && !transaction.Binder.IsGone(device.Address))
        {
            tools.Withheld.RememberNotBound(device, e, Host);
            throw;
        }

        tools.Withheld.ForgetNotBound(device, Host);
    }

    private void VerifyBindings()
    {
        disks.Dispose();
        if (transaction.Binder.Verify(intent) is { } wrong)
            throw new RefusalException(HoldingReasons.BindFailed, wrong);
        transaction.StopIfAbandoned();
    }

    /// <summary>Never under a guest: what was handed out in this boot was clean then.</summary>
    private void CleanAndProve()
    {
        if (intent.HandedOutIn is not null)
            return;
        intent = tools.Cleaning.CleanBefore(intent, checks, Host, transaction.Work);
        tools.Cleaning.ProveUsable(intent, Host, transaction.Work);
    }

    private Holding HandOut()
    {
        transaction.StopIfAbandoned();
        tools.Cleaning.MarkUsedOnce(intent, Host);
        JournalEntry prepared = intent with { Stage = JournalStage.Prepared, HandedOutIn = boot, Used = true };
        transaction.Save(prepared);
        return HoldingFacts.Prepared(prepared, Host);
    }

    /// <summary>
    /// It can't be prepared, and nothing was changed yet. A claim that was Prepared in this boot keeps its devices, since a guest may be
    /// using them; otherwise what an earlier attempt did is undone.
    /// </summary>
    private Holding Refuse(Exception e)
    {
        RefusalException why = e as RefusalException ?? new RefusalException(HoldingReasons.HostUnreadable, e.Message);
        if (before is null)
            return RefuseNew(why);
        return IsHandedOut ? transaction.Held(before, HoldingState.Stuck, why.Reason, why.Message) : transaction.Undo(before, why);
    }

    private Holding RefuseNew(RefusalException why)
    {
        try
        {
            // A journal write that failed may have left its file.
            tools.Table.Remove(request.ClaimUid, Host);
        }
        catch (HostIoException e)
        {
            if (tools.Table.EntryOf(request.ClaimUid) is { } left)
                return transaction.Held(left, HoldingState.Stuck, HoldingReasons.JournalFailed, $"{why.Message} Its journal entry can't be removed: {e.Message}");
        }

        return HoldingFacts.Rejected(request, why.Reason, why.Message);
    }

    /// <summary>It could not be finished: undone, but for a claim whose devices left while they were bound again.</summary>
    private Holding GiveUp(Exception e)
    {
        RefusalException why = e as RefusalException ?? (e is HostIoException io && transaction.IsOfStateFolder(io)
            ? new RefusalException(HoldingReasons.JournalFailed, $"What must outlive the agent can't be written: {e.Message}")
            : new RefusalException(HoldingReasons.BindFailed, e.Message));
        if (intent.Devices.FirstOrDefault(d => transaction.Binder.IsGone(d.Address)) is not { } gone)
            return transaction.Undo(intent, why);
        why = new RefusalException(HoldingReasons.DeviceGone, $"{gone.Address} left the bus while it was being bound.");
        return intent.HandedOutIn is null ? transaction.Undo(intent, why) : Keep(why);
    }

    /// <summary>
    /// A claim whose device left while it was bound again keeps its devices, as one whose device leaves at any other moment: the
    /// next looks say what is missing and when it is back.
    /// </summary>
    private Holding Keep(RefusalException why)
    {
        try
        {
            JournalEntry kept = intent with { Stage = JournalStage.Prepared };
            transaction.Save(kept);
            return transaction.Held(kept, HoldingState.Stuck, why.Reason, why.Message);
        }
        catch (HostIoException)
        {
            return transaction.Undo(intent, why);
        }
    }

    /// <summary>
    /// The number of a group means something within one boot only: a claim that was held before a reboot is held to whole
    /// groups, whatever their numbers are now; one that is held in this boot, to the group that it had then, unless it left the
    /// bus and came back since: then it has a new one.
    /// </summary>
    private AssignmentRequest WithGroupsOfBefore() => before is null
        ? request
        : request with
        {
            Devices = [.. request.Devices.Select(d => d with { IommuGroup = before.BootId == boot && !IsForgotten(d.Address) ? before.Devices.FirstOrDefault(h => h.Address == d.Address)?.IommuGroup : null })],
        };

    /// <summary>The kernel has forgotten what was done to a function: it left the bus and came back.</summary>
    private bool IsForgotten(PciAddress address) =>
        Inventory.OverrideOf(Host, address) is null && !VfioDrivers.IsVfio(Inventory.DriverOf(Host, address));

    /// <summary>Whether a function is bound for this claim already.</summary>
    private bool IsOurs(HostFunction f) =>
        before is not null && before.BootId == boot && before.Devices.Any(d => d.Address == f.Address && d.TargetDriver == f.Driver);

    /// <summary>What an administrator binds a function to; null: the agent binds it.</summary>
    private BindDriver? Administrators(HostFunction f) => request.Devices.FirstOrDefault(d => d.Address == f.Address && !d.Managed)?.Driver;
}
