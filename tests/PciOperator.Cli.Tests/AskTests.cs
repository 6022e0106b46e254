using System.Text.Json;
using PciOperator.Api;

namespace PciOperator.Cli.Tests;

/// <summary>The commands that ask, against a sandbox: their answers are the controller's.</summary>
public sealed class AskTests(SandboxLab lab)
{
    public static TheoryData<string, string, int> Commands =>
        new()
        {
            { "capacity", "capacity", ExitCodes.Ok },
            { "simulate", "simulate --alias a1:2,nv2080:1", ExitCodes.Ok },
            { "simulate-no", "simulate --alias nv2080:3", ExitCodes.No },
            { "explain-waiting", "explain too-much", ExitCodes.No },
            { "explain-placed", "explain render", ExitCodes.Ok },
            { "diagnose", "diagnose", ExitCodes.No },
            { "discover", "discover", ExitCodes.No },
            { "claim-create-dry-run", "claim create web --alias a1:2,tenant-vf:1 --numa-policy preferred --dry-run", ExitCodes.Ok },
            { "free-held", "free 24:00.0 --node node-1", ExitCodes.No },
            { "free-free", "free 24:00.0 --node node-2", ExitCodes.Ok },
            { "xml", "xml desktop", ExitCodes.Ok },
            { "vm", "vm desktop", ExitCodes.Ok },
        };

    [Theory]
    [MemberData(nameof(Commands))]
    public async Task Each_command_writes_what_its_golden_file_has(string name, string line, int code)
    {
        string[] args = line.Split(' ');
        foreach (int width in (int[])[0, 80, 200])
        {
            Said said = await lab.RunAsync(width, false, args);
            Assert.Equal(code, said.Code);
            if (width > 0)
                Assert.All(said.Out.Split('\n'), l => Assert.True(l.Length <= width || name is "xml" or "discover", l));
            SandboxLab.Golden($"{name}.{(width == 0 ? "piped" : width)}.txt", said.Out + said.Error);
        }
    }

    [Fact]
    public async Task The_reason_of_a_claim_that_waits_is_the_controllers_word_for_word()
    {
        PassthroughClaim? claim = await lab.Cluster.Client.GetAsync<PassthroughClaim>(
            "too-much",
            "default",
            TestContext.Current.CancellationToken
        );
        using var told = JsonDocument.Parse((await lab.PipedAsync("explain", "too-much", "-o", "json")).Out);
        Assert.Equal(claim!.Status!.Conditions.Find(Conditions.Scheduled)!.Message, told.RootElement.GetProperty("summary").GetString());
        Assert.Equal(2, told.RootElement.GetProperty("nodes").GetArrayLength());
    }

    [Theory]
    [InlineData("a1:1", "a1:1")]
    [InlineData("a1:2,a2:1", "a1:2 a2:1")]
    [InlineData("a1:1,a1:2", "r1=a1:1 r2=a1:2")]
    [InlineData("gpu:1,gpu-0:1", "r1=gpu:1 r2=gpu-0:1")]
    public void Requests_are_named_as_their_aliases_where_that_is_one_name_each(string text, string wanted)
    {
        string read = string.Join(
            ' ',
            Ask.RequestOptions.Requests(text).Select(r => r.Name == r.Alias ? $"{r.Alias}:{r.Count}" : $"{r.Name}={r.Alias}:{r.Count}")
        );
        Assert.Equal(wanted, read);
    }

    [Theory]
    [InlineData("a1")]
    [InlineData("a1:0")]
    [InlineData("a1:17")]
    [InlineData("a:1,b:1,c:1,d:1,e:1,f:1,g:1,h:1,i:1")]
    public async Task What_no_claim_can_ask_for_is_said_before_the_server_is_asked(string alias)
    {
        Said said = await lab.PipedAsync("simulate", "--alias", alias);
        Assert.Equal(ExitCodes.Usage, said.Code);
        Assert.StartsWith("error: --alias", said.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_simulation_names_an_alias_that_is_not_there_and_makes_nothing()
    {
        Said said = await lab.PipedAsync("simulate", "--alias", "nothing:1");
        Assert.Equal(ExitCodes.NotFound, said.Code);
        Assert.Contains("There is no usable PciAlias nothing; there are: a1, ", said.Error, StringComparison.Ordinal);
        await lab.PipedAsync("simulate", "--alias", "a1:1");
        Assert.Equal(7, (await lab.Cluster.Client.ListAsync<PassthroughClaim>(ct: TestContext.Current.CancellationToken)).Items.Count);
    }

    [Fact]
    public async Task Capacity_is_what_a_simulation_of_one_more_would_still_serve()
    {
        using var capacity = JsonDocument.Parse((await lab.PipedAsync("capacity", "-o", "json")).Out);
        foreach (JsonElement alias in capacity.RootElement.GetProperty("items").EnumerateArray())
        {
            Said one = await lab.PipedAsync("simulate", "--alias", alias.GetProperty("alias").GetString() + ":1", "-o", "json");
            Assert.Equal(alias.GetProperty("more").GetInt32() > 0, one.Code == ExitCodes.Ok);
            if (one.Code != ExitCodes.Ok)
                continue;
            using var simulated = JsonDocument.Parse(one.Out);
            JsonElement change = simulated
                .RootElement.GetProperty("capacity")
                .EnumerateArray()
                .Single(c => c.GetProperty("alias").GetString() == alias.GetProperty("alias").GetString());
            Assert.Equal(alias.GetProperty("more").GetInt32(), change.GetProperty("now").GetInt32());
            Assert.True(change.GetProperty("after").GetInt32() < change.GetProperty("now").GetInt32());
        }
    }

    [Fact]
    public async Task A_dry_run_stores_nothing_and_its_yaml_is_the_claim()
    {
        Said said = await lab.PipedAsync(
            "claim",
            "create",
            "dry",
            "--alias",
            "a1:1",
            "--priority-class",
            "high",
            "--dry-run",
            "-o",
            "yaml"
        );
        Assert.Contains("alias: a1\n", said.Out, StringComparison.Ordinal);
        Assert.Contains("priorityClassName: high\n", said.Out, StringComparison.Ordinal);
        Assert.Null(await lab.Cluster.Client.GetAsync<PassthroughClaim>("dry", "default", TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task What_the_server_refuses_is_its_own_sentence()
    {
        Said said = await lab.PipedAsync("claim", "create", "Not_A_Name", "--alias", "a1:1", "--dry-run");
        Assert.Equal(ExitCodes.Failed, said.Code);
        Assert.StartsWith("error: The API server refused: ", said.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", said.Error, StringComparison.Ordinal);
    }
}
