using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>What is about to be done for a claim and how to undo it. What an earlier attempt of this boot found stays.</summary>
/// <param name="transaction">The claim's work.</param>
/// <param name="boot">The boot.</param>
/// <param name="time">The present.</param>
internal sealed class ClaimIntent(ClaimTransaction transaction, string boot, TimeProvider time)
{
    /// <summary>The entry to write before the first change. Loads the drivers that it names.</summary>
    /// <param name="request">What is asked for.</param>
    /// <param name="before">What an earlier attempt has written; null: none has.</param>
    /// <param name="checks">The devices as the host shows them now, in the request's order.</param>
    /// <exception cref="RefusalException">VfioUnavailable.</exception>
    public JournalEntry Of(AssignmentRequest request, JournalEntry? before, PreBindChecks checks)
    {
        bool sameBoot = before?.BootId == boot;
        return new JournalEntry
        {
            FormatVersion = JournalEntry.CurrentFormat,
            BootId = boot,
            Stage = JournalStage.Preparing,
            ClaimUid = request.ClaimUid,
            ClaimNamespace = request.ClaimNamespace,
            ClaimName = request.ClaimName,
            Since = before?.Since ?? time.GetUtcNow(),
            HandedOutIn =
                sameBoot && before!.HandedOutIn == boot && before.Stage is JournalStage.Preparing or JournalStage.Prepared ? boot : null,
            Used = before?.Used == true,
            Devices =
            [
                .. request.Devices.Zip(
                    checks.Devices,
                    (asked, found) =>
                        Of(asked, found, before?.Devices.FirstOrDefault(d => d.Address == asked.Address), sameBoot, checks.Vfs)
                ),
            ],
        };
    }

    private JournalDevice Of(DeviceToTake asked, HostFunction found, JournalDevice? known, bool sameBoot, IReadOnlyList<HostFunction> vfs)
    {
        string target = asked.Managed
            ? known is not null && sameBoot
                ? known.TargetDriver
                : Target(asked)
            : found.Driver!;
        var device = new JournalDevice(asked, target)
        {
            StableId = sameBoot && known?.StableId is { } id && found.IsStillOurs ? id : found.Function.StableId,
            IommuGroup = found.Function.IommuGroup,
            ParentAddress = found.Function.ParentAddress,
            OriginalDriver = found.Driver,
            OriginalOverride = found.DriverOverride,
            OriginalNumVfs = found.NumVfs is > 0 ? found.NumVfs : known?.OriginalNumVfs,
            OriginalResetMethods =
                sameBoot && known is not null
                    ? known.OriginalResetMethods
                    : transaction.Host.ReadText($"{SysfsPaths.Device(asked.Address)}/reset_method"),
            NotReset = sameBoot ? known?.NotReset : null,
        };
        device = WithVfs(device, found, known, sameBoot, vfs);
        if (known is null || (found.Driver is not null && found.Driver != device.TargetDriver && !sameBoot))
            return device;
        return device with
        {
            OriginalDriver = known.OriginalDriver,
            OriginalOverride = sameBoot ? known.OriginalOverride : device.OriginalOverride,
        };
    }

    private string Target(DeviceToTake device) =>
        device.Driver switch
        {
            BindDriver.PciStub => transaction.Binder.EnsureDriver(VfioDrivers.PciStub),
            BindDriver.Auto => transaction.Binder.EnsureDriver(VfioVariant.For(transaction.Host, device.Address)),
            _ => transaction.Binder.EnsureDriver(VfioDrivers.VfioPci),
        };

    /// <summary>
    /// What is on record of a device's VFs, or of it as a VF: as first found in this boot, before an owner could change it.
    /// </summary>
    private JournalDevice WithVfs(
        JournalDevice device,
        HostFunction found,
        JournalDevice? known,
        bool sameBoot,
        IReadOnlyList<HostFunction> vfs
    )
    {
        JournalDevice before = known is null
            ? device
            : device with
            {
                OriginalVf = sameBoot ? known.OriginalVf : null,
                OriginalVfs = known.OriginalVfs,
                OriginalAutoprobe = known.OriginalAutoprobe,
            };
        if (found.Function.ParentAddress is not null && (known is null || !sameBoot))
            return before with { OriginalVf = transaction.Binder.SettingsOf(found) };
        return found.NumVfs is > 0 && !(sameBoot && known?.OriginalVfs is not null)
            ? before with
            {
                OriginalAutoprobe = transaction.Binder.AutoprobeOf(found.Address),
                OriginalVfs = transaction.Binder.VfsAsTheyAre(found.Address, vfs),
            }
            : before;
    }
}
