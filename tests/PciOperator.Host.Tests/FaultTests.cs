using System.Collections.Concurrent;
using PciOperator.Core;
using PciOperator.Host.Tests.Faults;

namespace PciOperator.Host.Tests;

/// <summary>A fault at every single read and write of everything that an agent does on its host.</summary>
[Trait("Cases", "Many")]
public class FaultTests(ITestOutputHelper output)
{
    private static readonly ConcurrentDictionary<string, Lazy<Task<FaultReport>>> Reports = new(StringComparer.Ordinal);

    private static readonly FaultOperation[] Operations =
    [
        new PrepareOperation("bind an NVMe", [FaultHosts.Nvme], () => FaultHosts.With(FaultHosts.Nvme)),
        new PrepareOperation("bind a NIC", [FaultHosts.Nic], () => FaultHosts.With(FaultHosts.Nic)),
        new PrepareOperation("bind a group of two", FaultHosts.Pair, () => FaultHosts.With(FaultHosts.Pair)),
        new PrepareOperation("bind a PF with VFs", [FaultHosts.Pf], WithVfs),
        new PrepareOperation("bind a VF", [FaultHosts.SecondVf], WithVfs) { VfsAfterReboot = 2 },
        new PrepareOperation(
            "bind a mounted NVMe",
            [FaultHosts.Nvme],
            () => FaultHosts.With(f => f.Disks.ForEach(d => d.MountedAt = d.PartitionOf is null ? null : "/data"), FaultHosts.Nvme)
        )
        {
            IsRefused = true,
        },
        new ReleaseOperation("release an NVMe", [FaultHosts.Nvme], () => FaultHosts.With(FaultHosts.Nvme)),
        new ReleaseOperation("release a NIC", [FaultHosts.Nic], () => FaultHosts.With(FaultHosts.Nic)),
        new ReleaseOperation("release a group of two", FaultHosts.Pair, () => FaultHosts.With(FaultHosts.Pair)),
        new ReleaseOperation("release a PF with VFs", [FaultHosts.Pf], WithVfs),
        new ReleaseOperation("release a VF", [FaultHosts.SecondVf], WithVfs)
        {
            VfsAfterReboot = 2,
            Setting = lab =>
                lab.Host.Change(
                    FaultHosts.SecondVf,
                    f => f.VfSettings = f.VfSettings! with { Mac = "02:00:00:00:00:07", Vlan = 99, Trust = false }
                ),
        },
        new PrepareOperation("bind, the first reset fails", [FaultHosts.Nic], () => FaultHosts.With(Unresettable, FaultHosts.Nic))
        {
            Change = d => d with { Reset = ResetMode.Required },
        },
        new ReleaseOperation("release, the first reset fails", [FaultHosts.Nic], () => FaultHosts.With(Unresettable, FaultHosts.Nic))
        {
            Change = d => d with { Reset = ResetMode.Required },
        },
        new PrepareOperation("bind for one use", [FaultHosts.Nvme], () => FaultHosts.With(FaultHosts.Nvme))
        {
            Change = d => d with { OneTimeUse = true },
        },
        new FreeOperation("free after one use", FaultHosts.Nvme, () => FaultHosts.With(FaultHosts.Nvme)),
        new VfsOperation("VFs 0 to 4", 0, 4, () => WithVfs(0)),
        new VfsOperation("VFs 4 to 2", 4, 2, () => WithVfs(4)) { VfsAfterReboot = 4 },
        new VfsOperation("VFs 4 to 0", 4, 0, () => WithVfs(4)) { VfsAfterReboot = 4 },
        new VfsOperation("VFs 0 to 2, no drivers", 0, 2, () => WithVfs(0)) { Autoprobe = false },
        new ScanOperation("look at everything", [FaultHosts.Nic], () => FaultHosts.With(FaultHosts.Nvme, FaultHosts.Nic)),
        new RecoverOperation("start of an agent", [FaultHosts.Nic], () => FaultHosts.With(FaultHosts.Nic)),
    ];

    public static TheoryData<string> Names => [.. Operations.Select(o => o.Name)];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task After_a_fault_at_any_access_it_is_done_undone_or_quarantined_and_named(string name)
    {
        FaultReport report = await ReportOf(name);
        output.WriteLine(
            $"{report.Reads} reads, {report.Changes} changes, {report.Total} runs: "
                + string.Join(", ", report.Outcomes.OrderBy(o => o.Key).Select(o => $"{o.Key.Kind} {o.Key.Outcome} {o.Value}"))
        );
        Assert.All(
            Enum.GetValues<FaultKind>().Where(k => TestScope.All && k <= FaultKind.LastingError),
            kind => Assert.True(report.Of(kind) > 0, $"no {kind}")
        );
        Assert.True(report.Total >= report.Reads + report.Changes, "an access without a fault");
    }

    [Fact]
    public async Task The_table_of_what_was_injected_and_what_came_of_it()
    {
        var lines = new List<string>
        {
            "| operation | reads | changes | runs | done | undone | quarantined or withheld, and named |",
            "|---|---:|---:|---:|---:|---:|---:|",
        };
        var reports = new List<FaultReport>();
        foreach (FaultOperation operation in Operations)
            reports.Add(await ReportOf(operation.Name));
        lines.AddRange(
            reports.Select(r =>
                $"| {r.Operation} | {r.Reads} | {r.Changes} | {r.Total} | {r.Of(Outcome.Done)} | {r.Of(Outcome.Undone)} | {r.Of(Outcome.Quarantined)} |"
            )
        );
        lines.Add(
            $"| all | {reports.Sum(r => r.Reads)} | {reports.Sum(r => r.Changes)} | {reports.Sum(r => r.Total)} | {reports.Sum(r => r.Of(Outcome.Done))} | {reports.Sum(r => r.Of(Outcome.Undone))} | {reports.Sum(r => r.Of(Outcome.Quarantined))} |"
        );
        string table = string.Join('\n', lines);
        output.WriteLine(table);
        Console.WriteLine(table);
        Assert.All(
            Enum.GetValues<FaultKind>().Where(_ => TestScope.All),
            kind => Assert.True(reports.Sum(r => r.Of(kind)) > 0, $"no {kind}")
        );
        Assert.Equal(reports.Sum(r => r.Total), Enum.GetValues<Outcome>().Sum(o => reports.Sum(r => r.Of(o))));
    }

    private static void Unresettable(Sandbox.Hosts.SimulatedFunction f)
    {
        if (f.Address == FaultHosts.Nic)
            f.FailingResets["flr"] = Errnos.EIO;
    }

    private static Sandbox.Hosts.SimulatedHost WithVfs() => FaultHosts.WithSetVfs(2);

    private static Sandbox.Hosts.SimulatedHost WithVfs(int number) => FaultHosts.With(f => f.Sriov!.NumVfs = number, FaultHosts.Pf);

    private static Task<FaultReport> ReportOf(string name) =>
        Reports
            .GetOrAdd(name, n => new Lazy<Task<FaultReport>>(() => new FaultInjection(Operations.Single(o => o.Name == n)).RunAsync()))
            .Value;
}
