using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Agent;

/// <summary>
/// Whether this node's own rules give away what it is told to take. The controller decides by the same rules; the agent doesn't take its
/// word for it.
/// </summary>
internal static class AllowedDevices
{
    /// <summary>
    /// A refusal that names the devices which no rule gives away; null when each is matched, or goes along with one whose rule lets
    /// companions go.
    /// </summary>
    public static Holding? Refuse(
        AssignmentRequest request,
        IReadOnlyDictionary<PciAddress, HostFunction> host,
        IReadOnlyDictionary<PciAddress, string> matched,
        CompiledRules rules
    )
    {
        var groups = request
            .Devices.Select(d => d.Address)
            .Where(a =>
                matched.TryGetValue(a, out string? rule) && rules.Policy(rule).Companions == CompanionPolicy.Allow && host.ContainsKey(a)
            )
            .Select(a => host[a].Function.IommuGroup)
            .OfType<int>()
            .ToHashSet();
        var strangers = request
            .Devices.Where(d =>
                !matched.ContainsKey(d.Address)
                && !(host.TryGetValue(d.Address, out HostFunction? f) && f.Function.IommuGroup is { } group && groups.Contains(group))
            )
            .ToList();
        if (strangers.Count == 0)
            return null;
        bool absent = strangers.TrueForAll(d => !host.ContainsKey(d.Address));
        string names = string.Join(", ", strangers.Select(d => d.Address));
        return new Holding
        {
            Request = request,
            State = HoldingState.Rejected,
            Reason = absent ? HoldingReasons.DeviceGone : HoldingReasons.NotAllowed,
            Message = absent
                ? $"There is no device at {names}."
                : $"No PciDeviceSpec of this node matches {names}, or lets it go along with its IOMMU group (companions: allow): the agent takes only what a rule of its own node gives away.",
            Devices =
            [
                .. strangers.Select(d => new HeldDevice { Address = d.Address, Driver = host.GetValueOrDefault(d.Address)?.Driver }),
            ],
        };
    }
}
