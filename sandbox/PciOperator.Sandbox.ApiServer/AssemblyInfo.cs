using System.Runtime.CompilerServices;

[assembly: InternalsVisibleTo("PciOperator.Sandbox.Tests")]
