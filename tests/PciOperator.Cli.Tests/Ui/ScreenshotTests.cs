using PciOperator.Testing;

namespace PciOperator.Cli.Tests.Ui;

/// <summary>The pictures of docs/kubectl-pci.md, of the lab whose answers are on that page. <c>make screenshots</c> writes them.</summary>
[Turns(3)]
public sealed class ScreenshotTests(SandboxLab lab)
{
    [TurnTheory]
    [InlineData("ui", 1280, 860, false)]
    [InlineData("ui-dark", 1280, 860, true)]
    [InlineData("ui-narrow", 360, 720, false)]
    public async Task The_page_looks_as_the_docs_show_it(string name, int width, int height, bool dark)
    {
        using var browser = new Browser(width, height, dark);
        await using RunningPage page = await RunningPage.StartAsync(lab.Kubeconfig);
        browser.Open(page.Address);
        await browser.UntilTextAsync("#connection", "Live");
        await browser.UntilTextAsync("#node-list", "0000:24:00.0");
        await browser.UntilTextAsync("#claim-list", "too-much");
        await browser.UntilAsync(() => browser.Number("return document.querySelectorAll('#alias-list td.free').length") > 5);
        browser.Run("document.querySelector('#claim-list details summary').click(); document.activeElement?.blur()");
        await browser.UntilTextAsync("#claim-list details", "has too few free (2 of 16)");
        browser.Run("window.scrollTo(0, 0)");
        Assert.InRange(browser.Number("return document.documentElement.scrollWidth"), 1, width);
        Assert.Empty(browser.Complaints());
        byte[] picture = browser.Picture();
        Assert.InRange(picture.Length, 20_000, 400_000);
        if (Environment.GetEnvironmentVariable("PCI_SCREENSHOTS") is { Length: > 0 } folder)
        {
            Directory.CreateDirectory(folder);
            await File.WriteAllBytesAsync(Path.Combine(folder, name + ".png"), picture, TestContext.Current.CancellationToken);
        }
    }
}
