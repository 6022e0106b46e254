using System.Text;
using System.Text.Json.Nodes;
using PciOperator.Kubernetes;
using PciOperator.Sandbox.ApiServer;
using PciOperator.Sandbox.Validation;

namespace PciOperator.Api.Tests;

/// <summary>
/// A server's verdict on random objects is that of the rules in C#: on a real server those in CEL say the same, field by field.
/// </summary>
public abstract class RuleAgreement(OwnKindsServer server)
{
    private const int Objects = 300;
    private const int Updates = 60;

    [Fact]
    public Task Device_specs() => AgreeAsync("/apis/pcioperator.io/v1alpha1/pcidevicespecs", new RandomObjects(1).DeviceSpec);

    [Fact]
    public Task Aliases() => AgreeAsync("/apis/pcioperator.io/v1alpha1/pcialiases", new RandomObjects(2).Alias);

    [Fact]
    public Task Quotas() => AgreeAsync("/apis/pcioperator.io/v1alpha1/pciquotas", new RandomObjects(6).Quota);

    [Fact]
    public Task Claims() => AgreeAsync("/apis/pcioperator.io/v1alpha1/namespaces/default/passthroughclaims", new RandomObjects(3).Claim);

    [Fact]
    public async Task Changes_of_claims()
    {
        const string collection = "/apis/pcioperator.io/v1alpha1/namespaces/default/passthroughclaims";
        var random = new RandomObjects(4);
        int refused = 0;
        for (int i = 0; i < Updates; i++)
        {
            using (await SendAsync(HttpMethod.Post, collection, random.GoodClaim())) { }

            using System.Text.Json.JsonDocument stored = await server.Client.GetRawAsync($"{collection}/random");
            JsonObject before = JsonObject.Create(stored.RootElement.Clone())!;
            JsonObject after = random.Changed(before);
            string expected = Verdict(after, before);
            Assert.Equal(
                (after.ToJsonString(), expected),
                (after.ToJsonString(), await VerdictAsync(HttpMethod.Put, $"{collection}/random", after))
            );
            refused += expected.Length == 0 ? 0 : 1;
            (await server.Client.SendRawAsync(HttpMethod.Delete, $"{collection}/random", default)).Dispose();
        }

        Assert.InRange(refused, Updates / 10, Updates - Updates / 10);
    }

    private async Task AgreeAsync(string collection, Func<JsonObject> next)
    {
        int refused = 0;
        for (int i = 0; i < Objects; i++)
        {
            JsonObject obj = next();
            string expected = Verdict(obj, null);
            Assert.Equal((obj.ToJsonString(), expected), (obj.ToJsonString(), await VerdictAsync(HttpMethod.Post, collection, obj)));
            refused += expected.Length == 0 ? 0 : 1;
        }

        Assert.InRange(refused, Objects / 10, Objects - Objects / 10);
    }

    private static string Verdict(JsonObject obj, JsonObject? old)
    {
        var kind = new GroupKind("pcioperator.io", (string)obj["kind"]!);
        return Text(OwnResourceRules.Validators[kind](obj, old).Select(e => (e.Path, e.Message)));
    }

    private async Task<string> VerdictAsync(HttpMethod method, string path, JsonObject obj)
    {
        try
        {
            using System.Text.Json.JsonDocument accepted = await SendAsync(method, path + "?dryRun=All", obj);
            return "";
        }
        catch (ApiException e) when (e.IsInvalid)
        {
            // Besides what the rules say there are the list map's own words on duplicates.
            return Text(e.Status.Details!.Causes!.Where(c => c.Reason == "FieldValueInvalid").Select(c => (c.Field!, Message(c.Message!))));
        }
    }

    private Task<System.Text.Json.JsonDocument> SendAsync(HttpMethod method, string path, JsonObject obj) =>
        server.Client.SendRawAsync(method, path, Encoding.UTF8.GetBytes(obj.ToJsonString()));

    // `Invalid value: "object": ` in front, and what went wrong within a rule, differ from one version of Kubernetes to the next.
    private static string Message(string cause)
    {
        const string evaluating = " evaluating rule: ";
        if (cause.IndexOf(evaluating, StringComparison.Ordinal) is var at and >= 0)
            return cause[(at + evaluating.Length)..];
        string message = cause["Invalid value: ".Length..];
        return message.StartsWith('"') ? message[(message.IndexOf("\": ", StringComparison.Ordinal) + 3)..] : message;
    }

    private static string Text(IEnumerable<(string Field, string Message)> errors) =>
        string.Join("\n", errors.Select(e => $"{e.Field}: {e.Message}").Order(StringComparer.Ordinal));
}

/// <summary>The sandbox's API server, which runs the rules in C#.</summary>
public sealed class SandboxRuleAgreement(SandboxOwnKindsServer server) : RuleAgreement(server), IClassFixture<SandboxOwnKindsServer>;

/// <summary>A real API server, which runs those in CEL.</summary>
public sealed class RealRuleAgreement(RealOwnKindsServer server) : RuleAgreement(server), IClassFixture<RealOwnKindsServer>;

/// <summary>k3s.</summary>
public sealed class K3sRuleAgreement(K3sOwnKindsServer server) : RuleAgreement(server), IClassFixture<K3sOwnKindsServer>;
