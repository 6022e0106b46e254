using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Agent;

/// <summary>Between the API's words and the host library's.</summary>
internal static class HostMapping
{
    public static AssignmentRequest Request(PciAssignment assignment) =>
        new()
        {
            ClaimUid = assignment.ClaimUid,
            ClaimNamespace = assignment.ClaimNamespace,
            ClaimName = assignment.ClaimName,
            Devices =
            [
                .. assignment.Devices.Select(d => new DeviceToTake
                {
                    Address = PciAddress.Parse(d.Address),
                    VendorId = PciId.Parse(d.VendorId),
                    ProductId = PciId.Parse(d.ProductId),
                    StableId = d.StableId,
                    IommuGroup = d.IommuGroup,
                    Driver = d.Driver,
                    Managed = d.Managed,
                    Reset = d.Reset,
                    OneTimeUse = d.OneTimeUse == true,
                }),
            ],
        };

    /// <summary>How a device is kept, as the journal has it.</summary>
    public static HeldPolicy Policy(DeviceToTake device) =>
        new()
        {
            Driver = device.Driver,
            Managed = device.Managed,
            Reset = device.Reset,
            OneTimeUse = device.OneTimeUse ? true : null,
        };

    /// <summary>The devices of this node that its rules give away although a guard refuses them.</summary>
    public static IReadOnlyList<Host.GuardOverride> Overrides(IReadOnlyList<PciNodeRule>? rules, string node) =>
        [
            .. (rules ?? [])
                .SelectMany(r => r.GuardOverrides ?? [])
                .Where(o => o.NodeName == node && PciAddress.TryParse(o.Address, out _))
                .Select(o => new Host.GuardOverride(PciAddress.Parse(o.Address), o.Ids, o.Serial))
                .Distinct(),
        ];

    /// <summary>An assignment that is seen and not begun.</summary>
    public static Holding Waiting(PciAssignment assignment) =>
        new()
        {
            Request = Request(assignment),
            State = HoldingState.Preparing,
            Devices = [],
        };

    /// <summary>
    /// A refusal that names the devices that are to blame, so that only these are kept from the claim: those that the host now says
    /// something against, or, where it says nothing of any of them, all.
    /// </summary>
    public static Holding Blame(Holding refusal, HostSnapshot host)
    {
        var now = host.Functions.ToDictionary(f => f.Address);
        var blamed = refusal
            .Request.Devices.Where(d =>
                !now.TryGetValue(d.Address, out HostFunction? f)
                || f.GuardReason is not null
                || f.Withheld is not null
                || f.Unbindable is not null
                || f.Function.VendorId != d.VendorId
                || f.Function.ProductId != d.ProductId
            )
            .ToList();
        return blamed.Count == 0
            ? refusal
            : refusal with
            {
                Devices =
                [
                    .. blamed.Select(d => new HeldDevice { Address = d.Address, Driver = now.GetValueOrDefault(d.Address)?.Driver }),
                ],
            };
    }
}
