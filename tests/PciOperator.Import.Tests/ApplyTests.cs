using System.Text;
using System.Text.Json;
using PciOperator.Api.Tests;
using PciOperator.Kubernetes;

namespace PciOperator.Import.Tests;

/// <summary>Everything that an import prints is taken by an API server that refuses unknown fields.</summary>
public abstract class ApplyContract(OwnKindsServer server)
{
    [Fact]
    public async Task What_an_import_prints_is_applied_with_strict_validation()
    {
        int applied = 0;
        foreach (GoldenCase one in GoldenCase.All)
        {
            foreach (string document in one.Expected.Split("---\n").Where(d => d.Contains("\nkind: ", StringComparison.Ordinal)))
            {
                Manifest manifest = Manifest.Parse(document).Single();
                string path = $"{manifest.Collection}/{manifest.Name}?fieldManager=tests&force=true&fieldValidation=Strict";
                try
                {
                    using JsonDocument stored = await server.Client.SendRawAsync(
                        HttpMethod.Patch,
                        path,
                        Encoding.UTF8.GetBytes(manifest.Yaml),
                        "application/apply-patch+yaml",
                        TestContext.Current.CancellationToken
                    );
                }
                catch (ApiException e)
                {
                    Assert.Fail($"{one.Name}: {e.Message}\n{document}");
                }

                applied++;
            }
        }

        Assert.True(applied > 40, $"{applied} were applied");
    }
}

/// <summary>By the sandbox's server.</summary>
public class SandboxApplyTests(SandboxOwnKindsServer server) : ApplyContract(server), IClassFixture<SandboxOwnKindsServer>;

/// <summary>By a real one.</summary>
public class RealApplyTests(RealOwnKindsServer server) : ApplyContract(server), IClassFixture<RealOwnKindsServer>;
