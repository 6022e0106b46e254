using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests.Faults;

/// <summary>What became of an operation.</summary>
internal enum Outcome
{
    /// <summary>As without the fault.</summary>
    Done,

    /// <summary>As if it had never been asked for.</summary>
    Undone,

    /// <summary>Neither, or not wholly: held or withheld, not offered, and a sentence says what it is about.</summary>
    Quarantined,
}

/// <summary>The agent's answer to one attempt.</summary>
/// <param name="Outcome">What it claims.</param>
/// <param name="Reason">One word; null when all is well.</param>
/// <param name="Message">A sentence; null when all is well.</param>
internal sealed record Answer(Outcome Outcome, string? Reason, string? Message);

/// <summary>Something that an agent does on its host, and that a fault may befall at any access.</summary>
internal abstract record FaultOperation(string Name, Func<SimulatedHost> NewHost)
{
    /// <summary>The answer of a run without faults.</summary>
    public virtual Outcome Expected => Outcome.Done;

    /// <summary>The words of which one must be in a sentence about what is quarantined.</summary>
    public abstract IReadOnlyList<string> Names { get; }

    /// <summary>Whether a path is about the operation's own devices, so that no other claim needs it.</summary>
    public virtual bool IsItsOwn(string path) => Names.Any(name => path.Contains(name, StringComparison.Ordinal));

    /// <summary>Its devices.</summary>
    public virtual IReadOnlyList<string> Cards => [];

    /// <summary>Whether the watchdog's word comes back as an answer with the reason WriteBlocked.</summary>
    public virtual bool IsWatched => true;

    /// <summary>What comes before it.</summary>
    public virtual Task Arrange(FaultLab lab) => Task.CompletedTask;

    /// <summary>One attempt, and again whenever the agent would try again.</summary>
    public abstract Task<Answer> Attempt(FaultLab lab);

    /// <summary>The opposite: afterwards the host is as at the start. Tried until it says Undone.</summary>
    public abstract Task<Answer> Reverse(FaultLab lab);

    /// <summary>VFs that the agent makes again after a reboot, since a spec says so.</summary>
    public int VfsAfterReboot { get; init; }

    /// <summary>What an agent does first after a reboot, before it comes to this.</summary>
    public virtual Task AfterReboot(FaultLab lab) => Task.CompletedTask;

    /// <summary>A card that is pulled out in some runs; null: none.</summary>
    public virtual string? Removable => null;

    /// <summary>While it is neither done nor undone nobody else gets the device.</summary>
    public virtual Task CheckNotOffered(FaultLab lab) => Task.CompletedTask;

    public sealed override string ToString() => Name;
}

/// <summary>A claim's prepare.</summary>
internal record PrepareOperation(string Name, string[] Devices, Func<SimulatedHost> NewHost) : FaultOperation(Name, NewHost)
{
    protected const string Claim = "claim-1";

    public Func<DeviceToTake, DeviceToTake>? Change { get; init; }

    /// <summary>A device of these that a guard refuses: its prepare never does anything.</summary>
    public bool IsRefused { get; init; }

    public override Outcome Expected => IsRefused ? Outcome.Undone : Outcome.Done;

    public override IReadOnlyList<string> Names =>
        [
            .. Devices,
            $"{Claim}.json",
            "of ens3",
            .. Devices.Contains(FaultHosts.Pf) ? (string[])[FaultHosts.FirstVf, FaultHosts.SecondVf] : [],
        ];

    public override IReadOnlyList<string> Cards => Devices;

    public override string? Removable => Devices[0];

    public override async Task CheckNotOffered(FaultLab lab)
    {
        Holding second = await FaultLab.Within(
            lab.Agent.PrepareAsync(lab.Request! with { ClaimUid = "claim-2", ClaimName = "claim-2" }),
            "a second claim's prepare"
        );
        Assert.True(second.State == HoldingState.Rejected, $"a second claim gets the device: {second.State}");
        Assert.DoesNotContain(lab.Agent.Holdings, h => h.ClaimUid == "claim-2");
    }

    public override Task Arrange(FaultLab lab)
    {
        lab.Request = lab.Asking(Claim, Devices, Change);
        return Task.CompletedTask;
    }

    public override async Task<Answer> Attempt(FaultLab lab)
    {
        Holding holding = await lab.Agent.PrepareAsync(lab.Request!);
        Outcome outcome = holding.State switch
        {
            HoldingState.Prepared => Outcome.Done,
            HoldingState.Rejected => Outcome.Undone,
            _ => Outcome.Quarantined,
        };
        return new Answer(outcome, holding.Reason, holding.Message);
    }

    public override async Task<Answer> Reverse(FaultLab lab)
    {
        if (await lab.Agent.ReleaseAsync(Claim) is { } left)
            return new Answer(Outcome.Quarantined, left.Reason, left.Message);
        try
        {
            if (lab.Request!.Devices.Any(d => d.OneTimeUse))
                _ = lab.Agent.ClearUsedOnce(PciAddress.Parse(Devices[0]));
            return new Answer(Outcome.Undone, null, null);
        }
        catch (HostIoException e)
        {
            return new Answer(Outcome.Quarantined, HoldingReasons.Busy, e.Message);
        }
    }

    public override async Task AfterReboot(FaultLab lab)
    {
        if (VfsAfterReboot > 0)
        {
            SriovOutcome made = await lab.Agent.SetVfsAsync(PciAddress.Parse(FaultHosts.Pf), VfsAfterReboot);
            Assert.True(made.Applied || made.BlockedBy.Count > 0, made.Message);
            if (!made.Applied)
                lab.Host.Files.Write($"/sys/bus/pci/devices/{FaultHosts.Pf}/sriov_numvfs", $"{VfsAfterReboot}");
        }

        IReadOnlyList<HostFunction> now = lab.Agent.Scan().Functions;
        lab.Request = lab.Request! with
        {
            Devices =
            [
                .. lab.Request.Devices.Select(d => d with { IommuGroup = now.Single(f => f.Address == d.Address).Function.IommuGroup }),
            ],
        };
    }
}

/// <summary>A claim's release.</summary>
internal sealed record ReleaseOperation(string Name, string[] Devices, Func<SimulatedHost> NewHost)
    : PrepareOperation(Name, Devices, NewHost)
{
    /// <summary>What somebody sets meanwhile that must not stay.</summary>
    public Action<FaultLab>? Setting { get; init; }

    public override async Task Arrange(FaultLab lab)
    {
        await base.Arrange(lab);
        Answer prepared = await base.Attempt(lab);
        Assert.True(prepared.Outcome == Outcome.Done, prepared.Message);
        foreach (string device in Devices)
            lab.Host.Change(device, f => f.Dirty = true);
        Setting?.Invoke(lab);
    }

    public override async Task<Answer> Attempt(FaultLab lab)
    {
        Answer answer = await base.Reverse(lab);
        return answer.Outcome == Outcome.Undone ? answer with { Outcome = Outcome.Done } : answer;
    }

    /// <summary>There is nothing that undoes a release but finishing it.</summary>
    public override Task<Answer> Reverse(FaultLab lab) => base.Reverse(lab);
}

/// <summary>A PF's number of VFs.</summary>
internal sealed record VfsOperation(string Name, int From, int To, Func<SimulatedHost> NewHost) : FaultOperation(Name, NewHost)
{
    public bool? Autoprobe { get; init; }

    public override IReadOnlyList<string> Names => [FaultHosts.Pf];

    public override Task<Answer> Attempt(FaultLab lab) => Set(lab, To, Autoprobe, Outcome.Done);

    public override Task<Answer> Reverse(FaultLab lab) => Set(lab, From, Autoprobe is null ? null : !Autoprobe, Outcome.Undone);

    private async Task<Answer> Set(FaultLab lab, int number, bool? autoprobe, Outcome when)
    {
        SriovOutcome outcome = await lab.Agent.SetVfsAsync(PciAddress.Parse(FaultHosts.Pf), number, autoprobe);
        if (outcome.Applied)
            return new Answer(when, null, null);
        bool undone =
            outcome.Reason is not (HoldingReasons.WriteBlocked or HoldingReasons.Busy)
            && lab.Host.Find(FaultHosts.Pf)?.Sriov?.NumVfs == (number == To ? From : To);
        return new Answer(undone ? Outcome.Undone : Outcome.Quarantined, outcome.Reason, outcome.Message);
    }
}

/// <summary>A look at everything, while one claim is held.</summary>
internal sealed record ScanOperation(string Name, string[] Held, Func<SimulatedHost> NewHost) : FaultOperation(Name, NewHost)
{
    private const string Claim = "claim-1";
    private IReadOnlyList<string> _free = [];

    public override bool IsItsOwn(string path) => false;

    public override IReadOnlyList<string> Names => ["/sys/", "/proc/", "/dev/", "/lib/", "/usr/"];

    public override bool IsWatched => false;

    public override async Task Arrange(FaultLab lab)
    {
        lab.Request = lab.Asking(Claim, Held);
        Holding holding = await lab.Agent.PrepareAsync(lab.Request);
        Assert.True(holding.State == HoldingState.Prepared, holding.Message);
        _free = Offered(lab.Agent.Scan());
    }

    public override Task<Answer> Attempt(FaultLab lab)
    {
        HostSnapshot snapshot;
        try
        {
            snapshot = lab.Agent.Scan(fresh: true);
        }
        catch (HostIoException e)
        {
            return Task.FromResult(new Answer(Outcome.Quarantined, null, e.Message));
        }

        // Whatever can't be read, nothing becomes free by it.
        Assert.Subset(_free.ToHashSet(), Offered(snapshot).ToHashSet());
        return Task.FromResult(
            Offered(snapshot).SequenceEqual(_free) && snapshot.Problems.Count == 0
                ? new Answer(Outcome.Done, null, null)
                : new Answer(
                    Outcome.Quarantined,
                    null,
                    string.Join(' ', snapshot.Problems.Concat(snapshot.Functions.Select(f => f.GuardReason).OfType<string>()).Distinct())
                )
        );
    }

    public override async Task<Answer> Reverse(FaultLab lab) =>
        await lab.Agent.ReleaseAsync(Claim) is { } left
            ? new Answer(Outcome.Quarantined, left.Reason, left.Message)
            : new Answer(Outcome.Undone, null, null);

    private static List<string> Offered(HostSnapshot snapshot) =>
        [.. snapshot.Functions.Where(f => f.GuardReason is null && f.Withheld is null && !f.Function.IsBridge).Select(f => $"{f.Address}")];
}

/// <summary>The start of an agent over what an earlier one left.</summary>
internal sealed record RecoverOperation(string Name, string[] Devices, Func<SimulatedHost> NewHost) : FaultOperation(Name, NewHost)
{
    private const string Claim = "claim-1";

    public override IReadOnlyList<string> Names => ["/var/lib/pcioperator/", "/proc/sys/kernel/random/boot_id", "journal"];

    public override bool IsWatched => false;

    public override async Task Arrange(FaultLab lab)
    {
        lab.Request = lab.Asking(Claim, Devices);
        Holding holding = await lab.Agent.PrepareAsync(lab.Request);
        Assert.True(holding.State == HoldingState.Prepared, holding.Message);
        lab.Host.PutFile($"{SimulatedHost.StateDirectory}/journal/claim-2.json.7.tmp", "{ \"formatVer");
    }

    public override async Task<Answer> Attempt(FaultLab lab)
    {
        PassthroughHost starting = lab.NewAgent();
        try
        {
            await starting.RecoverAsync();
        }
        catch (Exception e) when (e is HostIoException or JournalException)
        {
            // Before its journal is read an agent does nothing at all.
            return new Answer(Outcome.Quarantined, null, e.Message);
        }

        Assert.Equal([Claim], starting.Holdings.Select(h => h.ClaimUid));
        lab.Agent = starting;
        return new Answer(Outcome.Done, null, null);
    }

    public override async Task<Answer> Reverse(FaultLab lab) =>
        await lab.Agent.ReleaseAsync(Claim) is { } left
            ? new Answer(Outcome.Quarantined, left.Reason, left.Message)
            : new Answer(Outcome.Undone, null, null);
}

/// <summary>An administrator frees a device that was for one use.</summary>
internal sealed record FreeOperation(string Name, string Device, Func<SimulatedHost> NewHost) : FaultOperation(Name, NewHost)
{
    private const string Claim = "claim-1";

    public override IReadOnlyList<string> Names => [Device, "/sys/", "/proc/", "/devices/"];

    public override bool IsWatched => false;

    public override bool IsItsOwn(string path) => path.Contains(Device, StringComparison.Ordinal);

    public override async Task Arrange(FaultLab lab)
    {
        lab.Request = lab.Asking(Claim, [Device], d => d with { OneTimeUse = true });
        Assert.Equal(HoldingState.Prepared, (await lab.Agent.PrepareAsync(lab.Request)).State);
        Assert.Null(await lab.Agent.ReleaseAsync(Claim));
        _ = lab.Agent.Scan();
    }

    public override Task<Answer> Attempt(FaultLab lab)
    {
        try
        {
            _ = lab.Agent.ClearUsedOnce(PciAddress.Parse(Device));
            return Task.FromResult(new Answer(Outcome.Done, null, null));
        }
        catch (HostIoException e)
        {
            return Task.FromResult(new Answer(Outcome.Quarantined, null, e.Message));
        }
    }

    /// <summary>There is none: an administrator's word.</summary>
    public override Task<Answer> Reverse(FaultLab lab) => Task.FromResult(new Answer(Outcome.Undone, null, null));
}
