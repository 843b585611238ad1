"""Small PyTorch programs, written for the tests. A comment `#: id` marks the line that a finding must point to."""

_HEAD = """
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
"""
_DATA = """
tf = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
train_loader = DataLoader(datasets.MNIST('.', train=True, download=True, transform=tf), batch_size=64, shuffle=True)
test_loader = DataLoader(datasets.MNIST('.', train=False, transform=tf), batch_size=1000)
"""
_NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.drop = nn.Dropout(0.25)
        self.fc1 = nn.Linear(5408, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = self.drop(torch.flatten(x, 1))
        x = F.relu(self.fc1(x))
        return self.fc2(x)
"""
_LOOP = """
model = Net()
criterion = nn.CrossEntropyLoss()
optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for epoch in range(5):
    model.train()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
    model.eval()
    correct = 0
    with torch.no_grad():
        for images, labels in test_loader:
            correct += (model(images).argmax(1) == labels).sum().item()
"""

HEALTHY: dict[str, str] = {
    "plain loop": _HEAD + _DATA + _NET + _LOOP,
    "functions and arguments": """
import argparse
import torch
import torch.nn as nn
import torch.nn.functional as F
from torchvision import datasets, transforms

class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv1 = nn.Conv2d(1, 20, 5, 1)
        self.conv2 = nn.Conv2d(20, 50, 5, 1)
        self.fc = nn.Linear(800, 10)
    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return F.log_softmax(self.fc(x.view(-1, 800)), dim=1)

def train(args, model, device, train_loader, optimizer, epoch):
    model.train()
    for batch_idx, (data, target) in enumerate(train_loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.nll_loss(output, target)
        loss.backward()
        optimizer.step()

def test(model, device, test_loader):
    model.eval()
    with torch.no_grad():
        for data, target in test_loader:
            output = model(data.to(device))

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--epochs', type=int, default=14)
    parser.add_argument('--lr', type=float, default=1.0)
    parser.add_argument('--no-cuda', action='store_true')
    args = parser.parse_args()
    device = torch.device("cuda" if not args.no_cuda and torch.cuda.is_available() else "cpu")
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train_set = datasets.MNIST('../data', train=True, transform=transform)
    train_loader = torch.utils.data.DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    test_loader = torch.utils.data.DataLoader(datasets.MNIST('../data', train=False, transform=transform),
                                              batch_size=1000, shuffle=True)
    model = Net().to(device)
    optimizer = torch.optim.Adadelta(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    for epoch in range(1, args.epochs + 1):
        train(args, model, device, train_loader, optimizer, epoch)
        test(model, device, test_loader)
        scheduler.step()

if __name__ == '__main__':
    main()
""",
    "residual blocks, crops on training only": _HEAD
    + """
class Block(nn.Module):
    def __init__(self, planes):
        super().__init__()
        self.conv = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(planes)
    def forward(self, x):
        return F.relu(self.bn(self.conv(x)) + x)

class ResNet(nn.Module):
    def __init__(self, blocks=3):
        super().__init__()
        layers = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(blocks):
            layers.append(Block(64))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(64, 10)
    def forward(self, x):
        return self.head(self.pool(self.features(x)).flatten(1))

mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
train_tf = transforms.Compose([transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(),
                               transforms.ToTensor(), transforms.Normalize(mean, std)])
test_tf = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
trainloader = DataLoader(datasets.CIFAR10('.', train=True, transform=train_tf), batch_size=128, shuffle=True)
testloader = DataLoader(datasets.CIFAR10('.', train=False, transform=test_tf), batch_size=100, shuffle=False)
net = ResNet()
optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)

def train(epoch):
    net.train()
    for inputs, targets in trainloader:
        optimizer.zero_grad()
        loss = nn.CrossEntropyLoss()(net(inputs), targets)
        loss.backward()
        optimizer.step()

def test(epoch):
    net.eval()
    with torch.no_grad():
        for inputs, targets in testloader:
            net(inputs)

for epoch in range(200):
    train(epoch)
    test(epoch)
""",
    "transfer, phases in a dictionary": """
import os
import torch
import torch.nn as nn
from torchvision import datasets, models, transforms
data_transforms = {
    'train': transforms.Compose([transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(),
                                 transforms.ToTensor(),
                                 transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]),
    'val': transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
                               transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]),
}
image_datasets = {x: datasets.ImageFolder(os.path.join('bees', x), data_transforms[x]) for x in ['train', 'val']}
dataloaders = {x: torch.utils.data.DataLoader(image_datasets[x], batch_size=4, shuffle=True) for x in ['train', 'val']}

def train_model(model, criterion, optimizer, scheduler, num_epochs=25):
    for epoch in range(num_epochs):
        for phase in ['train', 'val']:
            if phase == 'train':
                model.train()
            else:
                model.eval()
            for inputs, labels in dataloaders[phase]:
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == 'train'):
                    outputs = model(inputs)
                    loss = criterion(outputs, labels)
                    if phase == 'train':
                        loss.backward()
                        optimizer.step()
            if phase == 'train':
                scheduler.step()
    return model

model_conv = models.resnet18(weights='IMAGENET1K_V1')
for param in model_conv.parameters():
    param.requires_grad = False
model_conv.fc = nn.Linear(512, 2)
optimizer = torch.optim.SGD(model_conv.fc.parameters(), lr=0.001, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 7)
train_model(model_conv, nn.CrossEntropyLoss(), optimizer, scheduler)
""",
    "sums of losses, gradients gathered": _HEAD
    + _DATA
    + _NET
    + """
model = Net()
optimizer = optim.AdamW(model.parameters(), lr=1e-3)
scaler = torch.cuda.amp.GradScaler()
for epoch in range(3):
    model.train()
    for i, (images, labels) in enumerate(train_loader):
        with torch.autocast('cuda'):
            loss = F.cross_entropy(model(images), labels) / 4
        scaler.scale(loss).backward()
        if (i + 1) % 4 == 0:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
""",
    "lightning": """
import torch
import lightning as L
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor
class Lit(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    def forward(self, x):
        return self.net(x)
    def training_step(self, batch, batch_idx):
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)
train = DataLoader(MNIST('.', transform=ToTensor()), batch_size=32, shuffle=True)
trainer = L.Trainer(max_epochs=3)
trainer.fit(Lit(), train)
""",
    "skorch": """
import numpy as np
from torch import nn
from skorch import NeuralNetClassifier
class Module(nn.Module):
    def __init__(self, units=10):
        super().__init__()
        self.dense0 = nn.Linear(20, units)
        self.output = nn.Linear(units, 2)
    def forward(self, X):
        return nn.functional.softmax(self.output(nn.functional.relu(self.dense0(X))), dim=-1)
X = np.load('X.npy'); y = np.load('y.npy')
net = NeuralNetClassifier(Module, max_epochs=10, lr=0.1)
net.fit(X, y)
""",
}

FAULTY: dict[str, str] = {
    "softmax before cross-entropy": _HEAD
    + _DATA
    + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 64)
        self.fc2 = nn.Linear(64, 10)
        self.out = nn.Softmax(dim=1)  #: doubled-softmax
    def forward(self, x):
        x = F.relu(self.fc1(x.view(-1, 784)))
        return self.out(self.fc2(x))
"""
    + _LOOP,
    "softmax in the loop": (_HEAD + _DATA + _NET + _LOOP).replace(
        "criterion(model(images), labels)", "criterion(F.softmax(model(images), dim=1), labels)  #: doubled-softmax"
    ),
    "sigmoid at the end": (_HEAD + _DATA + _NET + _LOOP).replace(
        "return self.fc2(x)", "return torch.sigmoid(self.fc2(x))  #: wrong-last-activation"
    ),
    "relu at the end": (_HEAD + _DATA + _NET + _LOOP).replace(
        "return self.fc2(x)", "return F.relu(self.fc2(x))  #: wrong-last-activation"
    ),
    "gradients kept": (_HEAD + _DATA + _NET + _LOOP)
    .replace("        optimizer.zero_grad()\n", "")
    .replace("loss.backward()", "loss.backward()  #: gradients-never-cleared"),
    "no step": (_HEAD + _DATA + _NET + _LOOP)
    .replace("        optimizer.step()\n", "")
    .replace("loss.backward()", "loss.backward()  #: weights-never-updated"),
    "no backward": (_HEAD + _DATA + _NET + _LOOP)
    .replace("        loss.backward()\n", "")
    .replace("optimizer.step()", "optimizer.step()  #: gradients-never-computed"),
    "cleared before the step": (_HEAD + _DATA + _NET + _LOOP)
    .replace("        optimizer.zero_grad()\n", "")
    .replace(
        "        optimizer.step()", "        optimizer.zero_grad()  #: weights-never-updated\n        optimizer.step()"
    ),
    "no eval": (_HEAD + _DATA + _NET + _LOOP)
    .replace("    model.eval()\n", "")
    .replace("correct += (model(images)", "correct += (1 * model(images)")
    .replace("== labels).sum().item()", "== labels).sum().item()  #: missing-eval-mode"),
    "eval and never train": (_HEAD + _DATA + _NET + _LOOP)
    .replace("    model.train()\n", "")
    .replace("    model.eval()\n", "    model.eval()  #: trains-in-evaluation-mode\n"),
    "test without normalisation": (_HEAD + _DATA + _NET + _LOOP)
    .replace(
        "datasets.MNIST('.', train=False, transform=tf)",
        "datasets.MNIST('.', train=False, transform=transforms.ToTensor())",
    )
    .replace("batch_size=1000)", "batch_size=1000)  #: preparation-differs"),
    "not shuffled": (
        _HEAD
        + _NET
        + """
tf = transforms.Compose([transforms.Resize(28), transforms.Grayscale(), transforms.ToTensor()])
train_loader = DataLoader(datasets.ImageFolder('letters/train', tf), batch_size=64)  #: not-shuffled
test_loader = DataLoader(datasets.ImageFolder('letters/test', tf), batch_size=64)
"""
        + _LOOP
    ),
    "split after augmentation": _HEAD
    + _NET
    + """
tf = transforms.Compose([transforms.RandomRotation(15), transforms.ToTensor()])
full = datasets.ImageFolder('letters', transform=tf)
train_set, val_set = torch.utils.data.random_split(full, [800, 200])
train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
test_loader = DataLoader(val_set, batch_size=64)  #: validation-augmented
"""
    + _LOOP,
    "adam at a tenth": (_HEAD + _DATA + _NET + _LOOP).replace(
        "optim.SGD(model.parameters(), lr=0.05, momentum=0.9)",
        "optim.Adam(model.parameters(), lr=0.1)  #: learning-rate-too-high",
    ),
    "layer left out of forward": (_HEAD + _DATA + _NET + _LOOP).replace(
        "        self.drop = nn.Dropout(0.25)\n",
        "        self.drop = nn.Dropout(0.25)\n        self.bn = nn.BatchNorm2d(32)  #: layer-not-connected\n",
    ),
    "no activations": _HEAD
    + _DATA
    + """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(784, 256),  #: missing-activation
            nn.Linear(256, 64),
            nn.Linear(64, 10),
        )
    def forward(self, x):
        return self.layers(x)
"""
    + _LOOP,
    "too few outputs": (_HEAD + _DATA + _NET + _LOOP).replace(
        "self.fc2 = nn.Linear(64, 10)", "self.fc2 = nn.Linear(64, 9)  #: wrong-output-units"
    ),
    "squared error for classes": (_HEAD + _DATA + _NET + _LOOP).replace(
        "nn.CrossEntropyLoss()", "nn.MSELoss()  #: loss-mismatch"
    ),
    "nll without log": (_HEAD + _DATA + _NET + _LOOP)
    .replace("nn.CrossEntropyLoss()", "nn.NLLLoss()")
    .replace("return self.fc2(x)", "return F.softmax(self.fc2(x), dim=1)  #: wrong-last-activation"),
    "digits upside down": _HEAD
    + _NET
    + """
tf = transforms.Compose([transforms.RandomVerticalFlip(), transforms.ToTensor()])
train_set = datasets.MNIST('.', train=True, transform=tf)
train_loader = DataLoader(train_set, batch_size=64, shuffle=True)  #: augmentation-breaks-labels
test_loader = DataLoader(datasets.MNIST('.', train=False, transform=transforms.ToTensor()), batch_size=64)
"""
    + _LOOP,
}

HEALTHY |= {
    "gradients cleared by hand, closures": _HEAD
    + _DATA
    + _NET
    + """
model = Net()
optimizer = optim.LBFGS(model.parameters())
for images, labels in train_loader:
    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        return loss
    optimizer.step(closure)
""",
    "a net made twice": _HEAD + _DATA + _NET + "print(Net())\nmodel = Net()\n" + _LOOP,
    "mixed once, by the split": _HEAD
    + _NET
    + """
import pandas as pd
from sklearn.model_selection import train_test_split
from torch.utils.data import TensorDataset
table = pd.read_csv('train.csv')
images = torch.tensor(table.drop('label', axis=1).values.reshape(-1, 1, 28, 28)).float() / 255
labels = torch.tensor(table.label.values)
x_train, x_test, y_train, y_test = train_test_split(images, labels, test_size=0.2)
train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=100, shuffle=False)
test_loader = DataLoader(TensorDataset(x_test, y_test), batch_size=100, shuffle=False)
"""
    + _LOOP,
    "log of a softmax": (_HEAD + _DATA + _NET + _LOOP)
    .replace("nn.CrossEntropyLoss()", "nn.NLLLoss()")
    .replace("criterion(model(images), labels)", "criterion(torch.log(F.softmax(model(images), dim=1)), labels)"),
    "a data set of one's own, a loop in a class": _HEAD
    + _NET
    + """
from torch.utils.data import Dataset
class Letters(Dataset):
    def __init__(self, folder, transform=None):
        self.files, self.transform = sorted(folder), transform
    def __len__(self):
        return len(self.files)
    def __getitem__(self, index):
        return self.transform(self.files[index]), index
class Trainer:
    def __init__(self, model, loader):
        self.model, self.loader = model, loader
        self.optimizer = optim.Adam(self.model.parameters(), lr=3e-4)
        self.criterion = nn.CrossEntropyLoss()
    def run(self, epochs):
        for epoch in range(epochs):
            self.model.train()
            for x, y in self.loader:
                self.optimizer.zero_grad()
                self.criterion(self.model(x), y).backward()
                self.optimizer.step()
trainer = Trainer(Net(), DataLoader(Letters('train'), batch_size=32, shuffle=True))
trainer.run(10)
""",
}
