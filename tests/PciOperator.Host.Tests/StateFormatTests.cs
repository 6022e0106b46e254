using System.Text.Json.Nodes;
using PciOperator.Core;
using PciOperator.Sandbox.Hosts;

namespace PciOperator.Host.Tests;

/// <summary>
/// The state folder outlives agents. StateFiles/ has what the agents of each format wrote in the flows of <see cref="StateFlows"/>: it is
/// never changed, and every later agent reads all of it and loses nothing. A new format gets a folder beside it.
/// </summary>
public class StateFormatTests
{
    private static readonly string Recorded = Path.Combine(AppContext.BaseDirectory, "StateFiles");

    public static TheoryData<string> Flows => [.. StateFlows.All.Keys];

    /// <summary>Files as "journal-2/stub.1-preparing.json".</summary>
    public static TheoryData<string> Entries => [.. FilesIn("journal-1"), .. FilesIn("journal-2")];

    public static TheoryData<string> Records => [.. FilesIn("devices-1")];

    [Theory]
    [MemberData(nameof(Flows))]
    public async Task What_the_agent_writes_an_agent_of_the_same_format_reads(string flow)
    {
        (IReadOnlyDictionary<string, string> written, _) = await StateFlows.Run(flow);
        var recorded = FilesIn("journal-2")
            .Concat(FilesIn("devices-1"))
            .Where(f => f.Split('/')[1].StartsWith(flow + ".", StringComparison.Ordinal))
            .ToDictionary(f => f.Replace("-2/", "/", StringComparison.Ordinal).Replace("-1/", "/", StringComparison.Ordinal), f => f);
        Assert.Equal(recorded.Keys.Order(StringComparer.Ordinal), written.Keys.Order(StringComparer.Ordinal));
        foreach ((string name, string file) in recorded)
            AssertKeeps(Content(file), JsonNode.Parse(written[name])!, name);
    }

    [Theory]
    [MemberData(nameof(Entries))]
    public void Every_word_of_an_old_entry_is_understood_and_written_again(string file)
    {
        SimulatedHost host = LabHosts.Create();
        JsonNode old = Content(file);
        string uid = (string)old["claimUid"]!;
        host.PutFile($"{StateFlows.JournalFolder}/{uid}.json", Text(file));
        var journal = new Journal(host.Files, SimulatedHost.StateDirectory);
        JournalEntry entry = Assert.Single(journal.Load());
        Assert.Empty(journal.Unreadable);
        journal.Save(host.Files, entry);
        old["formatVersion"] = JournalEntry.CurrentFormat;
        AssertKeeps(old, JsonNode.Parse(host.Files.ReadText($"{StateFlows.JournalFolder}/{uid}.json")!)!, file);
    }

    [Theory]
    [MemberData(nameof(Entries))]
    public async Task An_agent_holds_for_a_claim_what_an_old_entry_says(string file)
    {
        Lab lab = StateFlows.NewLab();
        JsonNode old = Content(file);
        string uid = (string)old["claimUid"]!;
        lab.Simulated.PutFile($"{StateFlows.JournalFolder}/{uid}.json", Text(file));
        await lab.Agent.RecoverAsync();
        Holding holding = Assert.Single(lab.Agent.Holdings);
        Assert.Equal(
            (uid, (string)old["claimNamespace"]!, (string)old["claimName"]!),
            (holding.ClaimUid, holding.Request.ClaimNamespace, holding.Request.ClaimName)
        );
        Assert.Equal(
            old["devices"]!
                .AsArray()
                .Select(d =>
                    (
                        Word(d!, "address"),
                        Word(d!, "vendorId"),
                        Word(d!, "productId"),
                        Word(d!, "stableId"),
                        Word(d!, "iommuGroup"),
                        Word(d!, "driver"),
                        Word(d!, "managed"),
                        Word(d!, "reset", "BestEffort"),
                        Word(d!, "oneTimeUse", "false")
                    )
                ),
            holding.Request.Devices.Select(d =>
                (
                    $"{d.Address}",
                    $"{d.VendorId}",
                    $"{d.ProductId}",
                    d.StableId ?? "",
                    $"{d.IommuGroup}",
                    $"{d.Driver}",
                    $"{d.Managed}".ToLowerInvariant(),
                    $"{d.Reset}",
                    $"{d.OneTimeUse}".ToLowerInvariant()
                )
            )
        );
        Assert.Equal(
            old["devices"]!.AsArray().Select(d => Word(d!, "originalDriver")),
            holding.Devices.Select(d => d.OriginalDriver ?? "")
        );
    }

    [Theory]
    [MemberData(nameof(Flows))]
    public async Task A_killed_agents_old_entry_is_enough_to_give_everything_back(string flow)
    {
        foreach (string file in FilesIn("journal-2").Where(f => f.StartsWith($"journal-2/{flow}.", StringComparison.Ordinal)))
        {
            string picture = (await StateFlows.Run(flow)).Lab.Picture();
            (_, Lab lab) = await StateFlows.Run(flow, killAt: file.Replace("-2/", "/", StringComparison.Ordinal));
            lab.Simulated.PutFile($"{StateFlows.JournalFolder}/{flow}.json", Text(file));
            lab.RestartAgent();
            await lab.Agent.RecoverAsync();
            Assert.Null(await lab.Agent.ReleaseAsync(flow));
            Assert.Equal(picture, lab.Picture());
        }
    }

    [Theory]
    [MemberData(nameof(Records))]
    public void Every_word_of_an_old_device_record_is_understood_and_written_again(string file)
    {
        SimulatedHost host = LabHosts.Create();
        JsonNode old = Content(file);
        string id = (string)old["stableId"]!;
        string path = $"{StateFlows.DevicesFolder}/{Uri.EscapeDataString(id)}.json";
        host.PutFile(path, Text(file));
        var memory = new DeviceMemory(host.Files, SimulatedHost.StateDirectory);
        memory.Load();
        var address = PciAddress.Parse((string)old["address"]!);
        Assert.Null(memory.UnreadablePath(id));
        Assert.NotNull(memory.Find(id, address));

        // Written again only when something of it changes.
        memory.Update(host.Files, id, address, r => r with { ProvenReset = r.ProvenReset + "x" });
        memory.Update(host.Files, id, address, r => r with { ProvenReset = r.ProvenReset == "x" ? null : r.ProvenReset![..^1] });
        AssertKeeps(old, JsonNode.Parse(host.Files.ReadText(path)!)!, file);
    }

    [Theory]
    [InlineData("address")]
    [InlineData("vendorId")]
    [InlineData("driver")]
    [InlineData("managed")]
    [InlineData("targetDriver")]
    public async Task An_entry_that_does_not_say_what_every_agent_has_written_is_not_worked_on(string word)
    {
        Lab lab = StateFlows.NewLab();
        JsonNode entry = Content("journal-2/stub.2-prepared.json");
        entry["devices"]![0]!.AsObject().Remove(word);
        lab.Simulated.PutFile($"{StateFlows.JournalFolder}/stub.json", entry.ToJsonString());
        await lab.Agent.RecoverAsync();
        Assert.Equal(HoldingReasons.JournalCorrupt, Assert.Single(lab.Agent.Holdings).Reason);
    }

    /// <summary>What the old text has, the new one has too, in the same words; it may have more.</summary>
    private static void AssertKeeps(JsonNode old, JsonNode now, string where)
    {
        switch (old)
        {
            case JsonObject properties:
                foreach ((string name, JsonNode? value) in properties)
                {
                    Assert.True(now[name] is not null, $"{where}: {name} is lost");
                    AssertKeeps(value!, now[name]!, $"{where}: {name}");
                }

                break;
            case JsonArray items:
                Assert.True(items.Count == now.AsArray().Count, $"{where}: {items.Count} items became {now.AsArray().Count}");
                foreach ((JsonNode? before, JsonNode? after) in items.Zip(now.AsArray()))
                    AssertKeeps(before!, after!, where);
                break;
            default:
                Assert.True(old.ToJsonString() == now.ToJsonString(), $"{where}: {old.ToJsonString()} became {now.ToJsonString()}");
                break;
        }
    }

    private static string Word(JsonNode device, string name, string otherwise = "") => device[name]?.ToString() ?? otherwise;

    private static JsonNode Content(string file) => JsonNode.Parse(Text(file))!;

    private static string Text(string file) => File.ReadAllText(Path.Combine(Recorded, file));

    private static IEnumerable<string> FilesIn(string folder) =>
        Directory.GetFiles(Path.Combine(Recorded, folder)).Select(f => $"{folder}/{Path.GetFileName(f)}").Order(StringComparer.Ordinal);
}
