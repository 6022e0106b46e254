using System.Text.Json;
using PciOperator.Core;
using PciOperator.Sandbox.Hosts;
using PciOperator.Testing;

namespace PciOperator.Host.Tests.Faults;

/// <summary>One run's host, clock and agent.</summary>
internal sealed class FaultLab
{
    /// <summary>For what must end by itself, in real time: only a failure takes so long.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private const string JournalFolder = $"{SimulatedHost.StateDirectory}/journal";

    private readonly FaultClock _clock;
    private readonly RecordedLog _log = new();

    private readonly Dictionary<string, AssignmentRequest> _asked;

    /// <param name="host">A new one.</param>
    /// <param name="asked">What was asked for on the same host before, by claim: it looks the same again.</param>
    public FaultLab(SimulatedHost host, Dictionary<string, AssignmentRequest> asked)
    {
        _asked = asked;
        Host = host;
        _clock = new FaultClock(Time);
        Agent = NewAgent();
    }

    public SimulatedHost Host { get; }

    public FakeTimeProvider Time { get; } = new();

    public PassthroughHost Agent { get; set; }

    /// <summary>What agents have said in their logs.</summary>
    public IEnumerable<string> Log => _log.Lines;

    /// <summary>What the operation's arrangement keeps for it.</summary>
    public AssignmentRequest? Request { get; set; }

    /// <summary>The claim that must not be held up by another's fault.</summary>
    public AssignmentRequest? Other { get; set; }

    public async Task RestartAgent()
    {
        Host.CrashAgent();
        Agent = NewAgent();
        await Agent.RecoverAsync();
    }

    public async Task Reboot()
    {
        Host.Reboot();
        Agent = NewAgent();
        await Agent.RecoverAsync();
    }

    /// <summary>A claim for devices as the host shows them now.</summary>
    public AssignmentRequest Asking(string claim, IReadOnlyList<string> addresses, Func<DeviceToTake, DeviceToTake>? change = null)
    {
        if (_asked.TryGetValue(claim, out AssignmentRequest? same))
            return same;
        IReadOnlyList<HostFunction> functions = Agent.Scan().Functions;
        return _asked[claim] = new AssignmentRequest
        {
            ClaimUid = claim,
            ClaimNamespace = "lab",
            ClaimName = claim,
            Devices =
            [
                .. addresses
                    .Select(PciAddress.Parse)
                    .Select(a => functions.Single(f => f.Address == a).Function)
                    .Select(f => new DeviceToTake
                    {
                        Address = f.Address,
                        VendorId = f.VendorId,
                        ProductId = f.ProductId,
                        StableId = f.StableId,
                        IommuGroup = f.IommuGroup,
                    })
                    .Select(d => change is null ? d : change(d)),
            ],
        };
    }

    /// <summary>
    /// All that a claim or a number of VFs changes and must put back: drivers, overrides, VFs and their settings, reset
    /// methods, the journal, and files that an interrupted write left.
    /// </summary>
    /// <param name="settings">With the VFs' settings.</param>
    public string Picture(bool settings = true) =>
        string.Join(
            '\n',
            Host.Functions.OrderBy(f => f.Address, StringComparer.Ordinal)
                .Select(f =>
                    $"{f.Address} {f.Driver} {f.Override} {f.Sriov?.NumVfs} {f.Sriov?.Autoprobe} {f.ResetMethods} {(settings ? Settings(f) : null)}"
                )
                .Concat(
                    Host.FilesBelow(SimulatedHost.StateDirectory)
                        .Where(f =>
                            f.Key.StartsWith(JournalFolder, StringComparison.Ordinal) || f.Key.EndsWith(".tmp", StringComparison.Ordinal)
                        )
                        .OrderBy(f => f.Key, StringComparer.Ordinal)
                        .Select(f => $"{f.Key} {Stage(f.Value)}")
                )
        );

    /// <summary>A MAC that a VF's driver chose is another one each time.</summary>
    private static VfSettings? Settings(SimulatedFunction f) =>
        f.VfSettings is not { } s ? null
        : s.Mac == FaultHosts.Mac ? s
        : s with { Mac = "own" };

    /// <summary>All that outlives an agent, to see whether two of its deaths are the same one.</summary>
    public string Remains() =>
        string.Join(
            '\n',
            Host.Functions.OrderBy(f => f.Address, StringComparer.Ordinal)
                .Select(f => JsonSerializer.Serialize(f))
                .Concat(
                    Host.FilesBelow(SimulatedHost.StateDirectory)
                        .OrderBy(f => f.Key, StringComparer.Ordinal)
                        .Select(f => $"{f.Key} {Convert.ToHexString(f.Value)}")
                )
        );

    /// <summary>What holds after anything: nothing is stranded, nothing has two owners, and the journal says what the agent says.</summary>
    /// <param name="start">Drivers and VFs as they were before all claims.</param>
    public async Task CheckConsistency(IReadOnlyDictionary<string, (string? Driver, int? NumVfs)> start)
    {
        IReadOnlyList<Holding> holdings = Agent.Holdings;
        List<PciAddress> held = [.. holdings.SelectMany(h => h.Request.Devices).Select(d => d.Address)];
        Assert.True(held.Distinct().Count() == held.Count, $"a device has two owners: {string.Join(", ", held)}");
        foreach (SimulatedFunction f in Host.Functions)
        {
            bool touched =
                f.Override is not null
                || (
                    start.TryGetValue(f.Address, out (string? Driver, int? NumVfs) was)
                    && (was.Driver != f.Driver || (was.NumVfs > 0 && f.Sriov?.NumVfs == 0))
                );
            Assert.True(
                !touched
                    || held.Contains(PciAddress.Parse(f.Address))
                    || (f.PhysFn is not null && held.Contains(PciAddress.Parse(f.PhysFn))),
                $"{f.Address} is stranded (driver {f.Driver ?? "none"}, override {f.Override ?? "none"}, {f.Sriov?.NumVfs} VFs): no claim holds it."
            );
        }

        // A second look by an agent that knows nothing but the disk.
        PassthroughHost another = NewAgent();
        await another.RecoverAsync();
        Assert.Subset(holdings.Select(h => h.ClaimUid).ToHashSet(), another.Holdings.Select(h => h.ClaimUid).ToHashSet());
        Assert.All(
            holdings.ExceptBy(another.Holdings.Select(h => h.ClaimUid), h => h.ClaimUid),
            h => Assert.True(h.State == HoldingState.Stuck, $"held, and not in the journal: {h}")
        );
        Assert.DoesNotContain(another.Holdings, h => h.Reason == HoldingReasons.JournalCorrupt);
    }

    /// <summary>Another claim, on another group, is prepared and released.</summary>
    public async Task CheckOthersGoOn()
    {
        Holding holding = await Within(Agent.PrepareAsync(Other!), "another claim's prepare");
        Assert.True(holding.State == HoldingState.Prepared, $"another claim is held up: {holding.State} {holding.Message}");
        Holding? left = await Within(Agent.ReleaseAsync(Other!.ClaimUid), "another claim's release");
        Assert.True(left is null, $"another claim is held up: {left?.State} {left?.Message}");
    }

    public static async Task<T> Within<T>(Task<T> task, string what)
    {
        try
        {
            return await task.WaitAsync(Patience);
        }
        catch (TimeoutException)
        {
            throw new TimeoutException($"{what} is held up");
        }
    }

    /// <summary>Why one of the devices is not to be offered to those who can do without a reset; null when nothing keeps it.</summary>
    public string? Withheld(IReadOnlyList<string> devices) =>
        Agent
            .Scan()
            .Functions.Where(f => devices.Contains(f.Address.ToString()))
            .Where(f => f.WithheldBy != "NoReset")
            .Select(f => f.Withheld)
            .FirstOrDefault(why => why is not null);

    /// <summary>Why no driver is tried with one of the devices any more; null when nothing is remembered.</summary>
    public string? Unbindable(IReadOnlyList<string> devices) =>
        Agent
            .Scan()
            .Functions.Where(f => devices.Contains(f.Address.ToString()))
            .Select(f => f.Unbindable)
            .FirstOrDefault(why => why is not null);

    private static string Stage(byte[] entry)
    {
        string text = System.Text.Encoding.UTF8.GetString(entry);
        int at = text.IndexOf("\"stage\": \"", StringComparison.Ordinal);
        return at < 0 ? "" : text[(at + 10)..text.IndexOf('"', at + 10)];
    }

    /// <remarks>Thousands of runs wait that long for a call that never returns.</remarks>
    public PassthroughHost NewAgent() =>
        new(
            Host.Files,
            SimulatedHost.StateDirectory,
            _clock,
            _log,
            new PassthroughHostOptions { LookPatience = TimeSpan.FromMilliseconds(5) }
        );
}
