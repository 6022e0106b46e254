using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Agent;

/// <summary>The claim that has a device, and whether it is bound for it.</summary>
internal sealed record Ownership(string ClaimUid, bool Bound);

/// <summary>What a PciNode says of each device: the state that follows from its owners, its guards and what withholds it. Pure.</summary>
internal sealed class NodeDevices
{
    private const int MostProblems = 8;
    private const int LongestId = 255;
    private readonly IReadOnlyDictionary<PciAddress, string> _matched;
    private readonly CompiledRules _rules;
    private readonly IReadOnlyDictionary<PciAddress, Ownership> _owners;
    private readonly IReadOnlyDictionary<PciAddress, string> _vfNotes;
    private readonly Dictionary<PciAddress, PciFunction> _present;

    // For each PF, one of its VFs that is given away.
    private readonly Dictionary<PciAddress, PciAddress> _heldVfs = [];

    // For each PF, one of its VFs that is withheld so that the PF is too, and one that is in its group.
    private readonly Dictionary<PciAddress, PciAddress> _withheldVfs = [];
    private readonly Dictionary<PciAddress, PciAddress> _groupedVfs = [];
    private readonly Dictionary<PciAddress, string> _strangers = [];
    private readonly Dictionary<PciAddress, (string By, string Why)> _withheld = [];

    // For each IOMMU group, a member that is withheld: the group goes as a whole.
    private readonly Dictionary<int, PciAddress> _withheldGroups = [];

    public NodeDevices(
        HostSnapshot host,
        IReadOnlyDictionary<PciAddress, string> matched,
        CompiledRules rules,
        IReadOnlyDictionary<PciAddress, Ownership> owners,
        IReadOnlyList<Holding> known,
        IReadOnlyDictionary<PciAddress, string> vfNotes
    )
    {
        (_matched, _rules, _owners, _vfNotes) = (matched, rules, owners, vfNotes);
        _present = host.Functions.ToDictionary(f => f.Address, f => f.Function);
        foreach (HostFunction vf in host.Functions.Where(f => f.Function.ParentAddress is not null && owners.ContainsKey(f.Address)))
            _heldVfs.TryAdd(vf.Function.ParentAddress!.Value, vf.Address);
        FindStrangers(host, known);
        FindWithheldVfs(host);
        FindWithheld(host);
    }

    /// <summary>One device.</summary>
    public PciNodeDevice Of(HostFunction function)
    {
        PciFunction f = function.Function;
        string? rule = _matched.GetValueOrDefault(f.Address);
        (DeviceState state, string? reason) = State(
            function,
            rule is not null && _rules.Policy(rule) is { Managed: false } policy ? policy.Driver : null
        );
        string? withheldBy = null;
        if (state == DeviceState.Available && _withheld.TryGetValue(f.Address, out (string By, string Why) withheld))
        {
            (state, reason, withheldBy) = (DeviceState.Unavailable, withheld.Why, withheld.By);
        }
        else if (state == DeviceState.Available && f.IommuGroup is { } group && _withheldGroups.TryGetValue(group, out PciAddress member))
        {
            (state, reason) = (
                DeviceState.Unavailable,
                $"its IOMMU group {group} goes as a whole, and {member} is withheld: {_withheld[member].Why}"
            );
        }
        else if (state == DeviceState.Available && _withheldVfs.TryGetValue(f.Address, out PciAddress vf))
        {
            (state, reason) = (DeviceState.Unavailable, $"its VF {vf} is withheld: {_withheld[vf].Why}");
        }

        if (state is DeviceState.Claimed or DeviceState.Allocated && _strangers.TryGetValue(f.Address, out string? stranger))
            (state, reason) = (DeviceState.Unavailable, stranger);
        if ((_vfNotes.GetValueOrDefault(f.Address) ?? VfsOfNoUse(f, rule)) is { } note)
            reason = reason is null ? note : $"{reason}; {note}";
        return new PciNodeDevice
        {
            Address = f.Address.ToString(),
            StableId = f.StableId is { Length: > LongestId } ? null : f.StableId,
            VendorId = f.VendorId.ToString(),
            ProductId = f.ProductId.ToString(),
            SubsystemVendorId = f.SubsystemVendorId?.ToString(),
            SubsystemProductId = f.SubsystemProductId?.ToString(),
            ClassCode = f.ClassCode.ToString("x6"),
            Name = Fitted.Text(function.Name, 255),
            Type = f.Type,
            ParentAddress = f.ParentAddress?.ToString(),
            NumaNode = f.NumaNode,
            Socket = f.Socket,
            PcieRoot = function.PcieRoot,
            IommuGroup = f.IommuGroup,
            Driver = Fitted.Text(function.Driver, 64),
            DeviceName = f.NetDevice,
            Serial = Fitted.Text(f.CardSerial, 128),
            TotalVfs = f.Type == DeviceType.Pf ? f.SriovTotalVfs : null,
            NumVfs = f.Type == DeviceType.Pf ? function.NumVfs : null,
            ResetMethods = function.ResetMethods is { Count: > 0 } methods
                ? [.. methods.Where(m => m.Length is > 0 and <= 32).Take(16)]
                : null,
            ProvenReset = Fitted.Text(function.ProvenReset, 64),
            Bridge = f.IsBridge ? true : null,
            Rule = rule,
            State = f.IsBridge ? null : state,
            Reason = Fitted.Text(reason, 1024),
            WithheldBy = f.IsBridge ? null : withheldBy,
            Problems = function.Problems is { Count: > 0 } problems
                ?
                [
                    .. problems
                        .DistinctBy(p => p.Type)
                        .Take(MostProblems)
                        .Select(p => new PciDeviceProblem { Type = p.Type, Message = Fitted.Text(p.Message, 1024) }),
                ]
                : null,
        };
    }

    /// <summary>A device that no rule matches: it has no state, and a reason if it could not be offered.</summary>
    public PciNodeDevice OfUnmatched(HostFunction function) => Of(function) with { State = null, WithheldBy = null };

    /// <param name="function">The device.</param>
    /// <param name="administrators">What an administrator binds it to (managed: false); null: the agent does.</param>
    private (DeviceState State, string? Reason) State(HostFunction function, BindDriver? administrators)
    {
        PciFunction f = function.Function;
        if (_owners.TryGetValue(f.Address, out Ownership? owner))
        {
            return _present.ContainsKey(f.Address)
                ? (owner.Bound ? DeviceState.Allocated : DeviceState.Claimed, null)
                : (DeviceState.Removed, function.GuardReason);
        }

        if (f.ParentAddress is { } parent && _owners.TryGetValue(parent, out Ownership? parentOwner))
            return (parentOwner.Bound ? DeviceState.Unavailable : DeviceState.Unclaimable, $"its physical function {parent} is given away");
        if (_heldVfs.TryGetValue(f.Address, out PciAddress vf))
            return (_owners[vf].Bound ? DeviceState.Unavailable : DeviceState.Unclaimable, $"its virtual function {vf} is given away");
        // What an administrator bound to VFIO is somebody else's, unless a spec says managed: false; then it has to be so.
        if (function.GuardReason is { } refusal && !(administrators is not null && function.GuardName == HoldingReasons.ForeignVfioBinding))
            return (DeviceState.Unavailable, refusal);
        if (administrators is { } wanted && !VfioDrivers.IsBoundAs(wanted, function.Driver))
        {
            return (
                DeviceState.Unavailable,
                $"its PciDeviceSpec says managed: false, and it is on {function.Driver ?? "no driver"}: bind it to {VfioDrivers.NameOf(wanted)}"
            );
        }

        if (administrators is not null && _groupedVfs.TryGetValue(f.Address, out PciAddress grouped))
            return (DeviceState.Unavailable, WholeGroup.WhyNotWithVfs(f.Address, grouped));
        return f.IommuGroup is null
            ? (
                DeviceState.Unavailable,
                "it is in no IOMMU group: is the IOMMU on (intel_iommu=on or amd_iommu=on, and VT-d or AMD-Vi in the firmware)?"
            )
            : (DeviceState.Available, null);
    }

    /// <summary>Addresses at which there is another card now than the one that a claim holds, with that claim's words.</summary>
    private void FindStrangers(HostSnapshot host, IReadOnlyList<Holding> known)
    {
        var functions = host.Functions.ToDictionary(f => f.Address, f => f.Function);
        foreach (Holding holding in known.Where(h => h is { State: HoldingState.Stuck, Reason: HoldingReasons.DriftDetected }))
        {
            foreach (DeviceToTake device in holding.Request.Devices)
            {
                if (
                    functions.TryGetValue(device.Address, out PciFunction? now)
                    && (
                        now.VendorId != device.VendorId
                        || now.ProductId != device.ProductId
                        || (device.StableId is { } id && now.StableId != id)
                    )
                )
                {
                    _strangers[device.Address] =
                        $"claim {holding.Request.ClaimNamespace}/{holding.Request.ClaimName} holds what was here: {holding.Message}";
                }
            }
        }
    }

    private bool GoesWithPf(PciFunction function) => WholeGroup.GoesWithPf(function, _present.GetValueOrDefault);

    /// <summary>For who asks for VFs where none can be given away; null: some can.</summary>
    private string? VfsOfNoUse(PciFunction pf, string? rule) =>
        rule is not null && _rules.Policy(rule).Sriov is { NumVfs: > 0 } && _groupedVfs.ContainsKey(pf.Address)
            ? $"its VFs are in its IOMMU group {pf.IommuGroup}, so that they can't be given away by themselves"
            : null;

    private void FindWithheldVfs(HostSnapshot host)
    {
        foreach (HostFunction vf in host.Functions.Where(f => f.Function.ParentAddress is not null))
        {
            PciAddress pf = vf.Function.ParentAddress!.Value;
            (string By, string Why)? own = Withheld(vf, mustReset: null, alone: false);
            if (own is { } why && WithheldWords.KeepsPf(why.By))
                _withheldVfs.TryAdd(pf, vf.Address);
            if (!GoesWithPf(vf.Function))
                continue;
            _groupedVfs.TryAdd(pf, vf.Address);
            _withheld[vf.Address] = own ?? (WithheldWords.GroupHasPf, WholeGroup.WhyNotAlone(vf.Function));
        }
    }

    /// <summary>What keeps devices that nobody has from being offered.</summary>
    private void FindWithheld(HostSnapshot host)
    {
        foreach (
            IGrouping<int, HostFunction> group in host
                .Functions.Where(f => f.Function is { IommuGroup: not null, IsBridge: false } && !GoesWithPf(f.Function))
                .GroupBy(f => f.Function.IommuGroup!.Value)
        )
        {
            var members = group.ToList();
            string? mustReset = members
                .Select(m => _matched.GetValueOrDefault(m.Address))
                .FirstOrDefault(r => r is not null && _rules.Policy(r).Reset == ResetMode.Required);
            foreach (HostFunction member in members)
            {
                if ((Withheld(member, mustReset, members.Count == 1) ?? Unbindable(member)) is not { } withheld)
                    continue;
                _withheld[member.Address] = withheld;
                _withheldGroups.TryAdd(group.Key, member.Address);
            }
        }
    }

    /// <summary>What no VFIO driver takes is of use to who wants it off the host only.</summary>
    private (string By, string Why)? Unbindable(HostFunction member) =>
        member.Unbindable is { } why
        && !(
            _matched.GetValueOrDefault(member.Address) is { } rule
            && _rules.Policy(rule) is var policy
            && (!policy.Managed || policy.Driver == BindDriver.PciStub)
        )
            ? (WithheldWords.CannotBind, why)
            : null;

    /// <summary>What keeps a free device from being offered, in one word and in a sentence; null: nothing.</summary>
    /// <param name="function">The device.</param>
    /// <param name="mustReset">The spec that says <c>reset: required</c> of it or of a member of its group; null: none does.</param>
    /// <param name="alone">No other device goes with it.</param>
    private static (string By, string Why)? Withheld(HostFunction function, string? mustReset, bool alone)
    {
        if (function.Withheld is { } sentence && (function.WithheldBy != WithheldWords.NoReset || mustReset is not null))
            return (function.WithheldBy ?? "Withheld", sentence);
        // Functions of a card without a way of their own may be reset together through VFIO: that is tried when they are first bound.
        return mustReset is not null && alone && function is { ResetMethods.Count: 0, ProvenReset: null }
            ? (WithheldWords.NoReset, $"it can't be reset, and PciDeviceSpec {mustReset} says reset: required")
            : null;
    }
}
