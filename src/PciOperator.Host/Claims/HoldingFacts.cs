using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>What is said of a claim: from its entry, and from how its devices stand now.</summary>
internal static class HoldingFacts
{
    /// <summary>A claim that has an entry.</summary>
    public static Holding Of(
        JournalEntry entry,
        IHostFileSystem files,
        HoldingState state,
        string? reason = null,
        string? message = null
    ) =>
        new()
        {
            Request = entry.Request,
            State = state,
            Reason = reason,
            Message = message,
            Devices = Devices(entry, files),
        };

    /// <summary>A claim that is Prepared, with what could not be reset of it.</summary>
    public static Holding Prepared(JournalEntry entry, IHostFileSystem files) =>
        Of(entry, files, HoldingState.Prepared, NotResetReason(entry), NotResetMessage(entry));

    /// <summary>A claim of which nothing is held.</summary>
    public static Holding Rejected(AssignmentRequest request, string reason, string message) =>
        new()
        {
            Request = request,
            State = HoldingState.Rejected,
            Reason = reason,
            Message = message,
        };

    /// <summary>A claim as the journal has it when the agent starts.</summary>
    public static Holding AsLoaded(JournalEntry entry, string boot, IHostFileSystem files)
    {
        bool rebooted = entry.BootId != boot;
        HoldingState state = entry.Stage switch
        {
            JournalStage.Releasing or JournalStage.Restoring => HoldingState.Releasing,
            JournalStage.Prepared when !rebooted => HoldingState.Prepared,
            _ => HoldingState.Preparing,
        };
        return Of(
            entry,
            files,
            state,
            rebooted ? HoldingReasons.Rebooted : NotResetReason(entry),
            rebooted ? "The host was rebooted since; nothing is bound until the claim is prepared again." : NotResetMessage(entry)
        );
    }

    /// <summary>A claim whose entry can't be understood.</summary>
    /// <param name="uid">The claim's.</param>
    /// <param name="path">Where the entry lies now.</param>
    public static Holding Unreadable(string uid, string path) =>
        new()
        {
            Request = new AssignmentRequest
            {
                ClaimUid = uid,
                ClaimNamespace = "",
                ClaimName = "",
                Devices = [],
            },
            State = HoldingState.Stuck,
            Reason = HoldingReasons.JournalCorrupt,
            Message =
                $"The journal entry of this claim can't be read, so what it holds is unknown. Look for devices with a driver_override, put them back, then delete {path} on the host.",
        };

    private static string? NotResetReason(JournalEntry entry) =>
        entry.Stage == JournalStage.Prepared && entry.Devices.Any(d => d.NotReset is not null) ? HoldingReasons.NotReset : null;

    private static string? NotResetMessage(JournalEntry entry) =>
        NotResetReason(entry) is null ? null : string.Join(' ', entry.Devices.Select(d => d.NotReset).OfType<string>());

    private static List<HeldDevice> Devices(JournalEntry entry, IHostFileSystem files) =>
        [
            .. entry.Devices.Select(d =>
            {
                string? driver = null,
                    node = null,
                    device = null;
                try
                {
                    driver = Inventory.DriverOf(files, d.Address);
                    if (VfioDrivers.IsVfio(driver))
                    {
                        node = d.IommuGroup is { } group && files.Exists(SysfsPaths.GroupNode(group)) ? SysfsPaths.GroupNode(group) : null;
                        device = Inventory.VfioDevice(files, d.Address);
                    }
                }
                catch (HostIoException)
                {
                    // Shown as not bound: the next Prepare or Release says what is wrong.
                }

                return new HeldDevice
                {
                    Address = d.Address,
                    Driver = driver,
                    OriginalDriver = d.OriginalDriver,
                    DeviceNode = node,
                    VfioDeviceNode = device,
                };
            }),
        ];
}
