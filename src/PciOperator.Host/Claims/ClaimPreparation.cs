using Microsoft.Extensions.Logging;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// A claim gets its devices. Until <see cref="JournalTheIntent"/> has returned nothing of the host is changed (but for a driver that is
/// loaded); from then on what was done is finished or undone.
/// </summary>
internal sealed class ClaimPreparation : IDisposable
{
    private readonly ClaimTools _tools;
    private readonly ClaimTransaction _transaction;
    private readonly AssignmentRequest _request;
    private readonly string _boot;
    private readonly ExclusiveDisks _disks = new();

    // What an earlier attempt has written; null: none has.
    private readonly JournalEntry? _before;
    private PreBindChecks _checks = null!;
    private JournalEntry _intent = null!;

    public ClaimPreparation(ClaimTools tools, ClaimTransaction transaction, AssignmentRequest request)
    {
        (_tools, _transaction, _request) = (tools, transaction, request);
        _boot = tools.Table.BootId;
        _before = tools.Table.EntryOf(request.ClaimUid);
    }

    private WatchedFileSystem Host => _transaction.Host;

    /// <summary>Handed out in this boot: a guest may be using the devices.</summary>
    private bool IsHandedOut => _before is { Stage: JournalStage.Prepared } && _before.BootId == _boot;

    public void Dispose() => _disks.Dispose();

    /// <summary>All of it, in order.</summary>
    public Holding Run()
    {
        if (_before is not null && !_before.IsFor(_request))
            return OtherDevices(_before);
        try
        {
            Reserve();
            Examine();
            if (IsHandedOut && AsItStands(_before!) is { } holding)
                return holding;
            RefuseWhatIsWithheldOrGuarded();
            _intent = new ClaimIntent(_transaction, _boot, _tools.Time).Of(_request, _before, _checks);
            JournalTheIntent();
            AskTheGuardsAgain();
        }
        catch (Exception e) when (e is RefusalException or HostIoException)
        {
            return Refuse(e);
        }

        _tools.Table.Publish(_request.ClaimUid, _transaction.Held(_intent, HoldingState.Preparing));
        try
        {
            BindDevices();
            VerifyBindings();
            CleanAndProve();
            return HandOut();
        }
        catch (Exception e) when (e is RefusalException or HostIoException)
        {
            _disks.Dispose();
            return GiveUp(e);
        }
    }

    private Holding OtherDevices(JournalEntry held) =>
        _transaction.Held(
            held,
            HoldingState.Stuck,
            HoldingReasons.AssignmentChanged,
            $"The claim holds {string.Join(", ", held.Devices.Select(d => d.Address))} here, and the assignment names {string.Join(", ", _request.Devices.Select(d => d.Address))}: release it first."
        );

    /// <summary>
    /// Reserves the devices, their groups and their PFs for the claim, before they are examined: from then on no other claim and no
    /// change of VFs can come between.
    /// </summary>
    /// <exception cref="RefusalException">OwnedByOther or Busy.</exception>
    private void Reserve()
    {
        while (true)
        {
            (Reservations.Share wanted, bool isWhole) = Reservations.Share.Of(_request, Host);
            if (_tools.Table.TryReserve(_request.ClaimUid, wanted, isWhole, _before) is not { } resizing)
                return;
            if (resizing.IsStalled)
            {
                throw new RefusalException(
                    HoldingReasons.Busy,
                    "The number of VFs of this device's PF is being changed, and the kernel has not finished."
                );
            }

            _tools.Reads.Usage.Leave(_transaction.Work);
            resizing.EndedOrStalled.Wait();
            _tools.Reads.Usage.Expect(_transaction.Work);
            _transaction.StopIfAbandoned();
        }
    }

    /// <summary>Looks at the devices, which have to be the ones that were asked for, and at how the host uses them.</summary>
    private void Examine()
    {
        _tools.Guards.Consent = GuardConsent.Read(Host, _tools.StateDirectory);
        _checks = PreBindChecks.Of(WithGroupsOfBefore(), Host, IsHandedOut, Host.Usage());
        _checks = _checks with
        {
            Devices = [.. _checks.Devices.Select(_tools.Twins.Tell)],
            Vfs = [.. _checks.Vfs.Select(_tools.Twins.Tell)],
        };
    }

    /// <summary>A claim that was handed out: well as it is, or in use; null: it has to be bound again.</summary>
    private Holding? AsItStands(JournalEntry held)
    {
        string? user = _transaction.Binder.Verify(held) is null ? null : _transaction.Binder.FindUser(held);
        if (user is not null)
            _transaction.Binder.RepairOverrides(held);
        if (_transaction.Binder.Verify(held) is not { } wrong)
            return HoldingFacts.Prepared(held, Host);

        // Binding under a running guest would take away or reset what it works with.
        return user is null
            ? null
            : _transaction.Held(
                held,
                HoldingState.Stuck,
                HoldingReasons.NotBound,
                $"{wrong} It is bound again when nothing uses the claim's devices any more: {user}."
            );
    }

    private void RefuseWhatIsWithheldOrGuarded()
    {
        if (_before is not { Used: true })
            _tools.Withheld.Refuse(_request, _checks, Host);
        foreach (GuardRefusal overridden in _checks.CheckGuards(Host, _tools.Guards, IsOurs, Administrators, _disks))
        {
            _tools.Logger.LogWarning(
                "Claim {Namespace}/{Name}: the guard {Guard} is overridden: {Sentence}",
                _request.ClaimNamespace,
                _request.ClaimName,
                overridden.Guard,
                overridden.Sentence
            );
        }
    }

    private void JournalTheIntent()
    {
        try
        {
            _transaction.Save(_intent);
        }
        catch (HostIoException e)
        {
            throw new RefusalException(HoldingReasons.JournalFailed, $"The journal can't be written: {e.Message}");
        }
    }

    /// <summary>Loading a module and writing the journal take their time: the guards have the last word before the first write.</summary>
    private void AskTheGuardsAgain()
    {
        _checks.CheckGuardsAgain(Host, _tools.Guards, IsOurs, Administrators, _disks);
        _tools.Reads.Usage.Leave(_transaction.Work);
    }

    private void BindDevices()
    {
        foreach (JournalDevice device in _intent.Devices.Where(d => d.Managed))
        {
            _transaction.StopIfAbandoned();
            if (_checks.Devices.Any(f => f.Address == device.Address && f.Function.Type == DeviceType.Pf))
            {
                _transaction.Binder.RemoveVfs(device.Address);
                _tools.Cleaning.Forgive(_checks.Vfs.Where(vf => vf.Function.ParentAddress == device.Address), Host);
            }

            Bind(device);
        }
    }

    private void Bind(JournalDevice device)
    {
        try
        {
            _transaction.Binder.Bind(device);
        }
        catch (RefusalException e) when (e.Reason == HoldingReasons.BindFailed && !_transaction.Binder.IsGone(device.Address))
        {
            _tools.Withheld.RememberNotBound(device, e, Host);
            throw;
        }

        _tools.Withheld.ForgetNotBound(device, Host);
    }

    private void VerifyBindings()
    {
        _disks.Dispose();
        if (_transaction.Binder.Verify(_intent) is { } wrong)
            throw new RefusalException(HoldingReasons.BindFailed, wrong);
        _transaction.StopIfAbandoned();
    }

    /// <summary>Never under a guest: what was handed out in this boot was clean then.</summary>
    private void CleanAndProve()
    {
        if (_intent.HandedOutIn is not null)
            return;
        _intent = _tools.Cleaning.CleanBefore(_intent, _checks, Host, _transaction.Work);
        _tools.Cleaning.ProveUsable(_intent, Host, _transaction.Work);
    }

    private Holding HandOut()
    {
        _transaction.StopIfAbandoned();
        _tools.Cleaning.MarkUsedOnce(_intent, Host);
        JournalEntry prepared = _intent with { Stage = JournalStage.Prepared, HandedOutIn = _boot, Used = true };
        _transaction.Save(prepared);
        return HoldingFacts.Prepared(prepared, Host);
    }

    /// <summary>
    /// It can't be prepared, and nothing was changed yet. A claim that was Prepared in this boot keeps its devices, since a guest may be
    /// using them; otherwise what an earlier attempt did is undone.
    /// </summary>
    private Holding Refuse(Exception e)
    {
        RefusalException why = e as RefusalException ?? new RefusalException(HoldingReasons.HostUnreadable, e.Message);
        if (_before is null)
            return RefuseNew(why);
        return IsHandedOut ? _transaction.Held(_before, HoldingState.Stuck, why.Reason, why.Message) : _transaction.Undo(_before, why);
    }

    private Holding RefuseNew(RefusalException why)
    {
        try
        {
            // A journal write that failed may have left its file.
            _tools.Table.Remove(_request.ClaimUid, Host);
        }
        catch (HostIoException e)
        {
            if (_tools.Table.EntryOf(_request.ClaimUid) is { } left)
            {
                return _transaction.Held(
                    left,
                    HoldingState.Stuck,
                    HoldingReasons.JournalFailed,
                    $"{why.Message} Its journal entry can't be removed: {e.Message}"
                );
            }
        }

        return HoldingFacts.Rejected(_request, why.Reason, why.Message);
    }

    /// <summary>It could not be finished: undone, but for a claim whose devices left while they were bound again.</summary>
    private Holding GiveUp(Exception e)
    {
        RefusalException why =
            e as RefusalException
            ?? (
                e is HostIoException io && _transaction.IsOfStateFolder(io)
                    ? new RefusalException(HoldingReasons.JournalFailed, $"What must outlive the agent can't be written: {e.Message}")
                    : new RefusalException(HoldingReasons.BindFailed, e.Message)
            );
        if (_intent.Devices.FirstOrDefault(d => _transaction.Binder.IsGone(d.Address)) is not { } gone)
            return _transaction.Undo(_intent, why);
        why = new RefusalException(HoldingReasons.DeviceGone, $"{gone.Address} left the bus while it was being bound.");
        return _intent.HandedOutIn is null ? _transaction.Undo(_intent, why) : Keep(why);
    }

    /// <summary>
    /// A claim whose device left while it was bound again keeps its devices, as one whose device leaves at any other moment: the
    /// next looks say what is missing and when it is back.
    /// </summary>
    private Holding Keep(RefusalException why)
    {
        try
        {
            JournalEntry kept = _intent with { Stage = JournalStage.Prepared };
            _transaction.Save(kept);
            return _transaction.Held(kept, HoldingState.Stuck, why.Reason, why.Message);
        }
        catch (HostIoException)
        {
            return _transaction.Undo(_intent, why);
        }
    }

    /// <summary>
    /// The number of a group means something within one boot only: a claim that was held before a reboot is held to whole
    /// groups, whatever their numbers are now; one that is held in this boot, to the group that it had then, unless it left the
    /// bus and came back since: then it has a new one.
    /// </summary>
    private AssignmentRequest WithGroupsOfBefore() =>
        _before is null
            ? _request
            : _request with
            {
                Devices =
                [
                    .. _request.Devices.Select(d =>
                        d with
                        {
                            IommuGroup =
                                _before.BootId == _boot && !IsForgotten(d.Address)
                                    ? _before.Devices.FirstOrDefault(h => h.Address == d.Address)?.IommuGroup
                                    : null,
                        }
                    ),
                ],
            };

    /// <summary>The kernel has forgotten what was done to a function: it left the bus and came back.</summary>
    private bool IsForgotten(PciAddress address) =>
        Inventory.OverrideOf(Host, address) is null && !VfioDrivers.IsVfio(Inventory.DriverOf(Host, address));

    /// <summary>Whether a function is bound for this claim already.</summary>
    private bool IsOurs(HostFunction f) =>
        _before is not null && _before.BootId == _boot && _before.Devices.Any(d => d.Address == f.Address && d.TargetDriver == f.Driver);

    /// <summary>What an administrator binds a function to; null: the agent binds it.</summary>
    private BindDriver? Administrators(HostFunction f) =>
        _request.Devices.FirstOrDefault(d => d.Address == f.Address && !d.Managed)?.Driver;
}
