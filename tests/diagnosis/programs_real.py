"""Forms that published programs have and the other programs here have not: healthy, or faulty on a marked line."""

from __future__ import annotations

_TF_DATA = """
import tensorflow as tf
from tensorflow import keras
(x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
x_train, x_test = x_train[..., None] / 255.0, x_test[..., None] / 255.0
train_ds = tf.data.Dataset.from_tensor_slices((x_train, y_train)).shuffle(10000).batch(32)
"""
_TAPE = """
class Digits(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = keras.layers.Conv2D(16, 3, activation='relu')
        self.flat = keras.layers.Flatten()
        self.out = keras.layers.Dense(10)

    def call(self, x, training=False):
        return self.out(self.flat(self.conv(x)))


model = Digits()
loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
optimizer = keras.optimizers.Adam(1e-3)


@tf.function
def train_step(images, labels):
    with tf.GradientTape() as tape:
        answers = model(images, training=True)
        loss = loss_fn(labels, answers)
    grads = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(grads, model.trainable_variables))


for epoch in range(5):
    for images, labels in train_ds:
        train_step(images, labels)
"""
_END = """
model.compile(loss='categorical_crossentropy', optimizer='adam', metrics=['accuracy'])
y_train = keras.utils.to_categorical(y_train, 10)
model.fit(x_train, y_train, epochs=5, validation_split=0.1)
"""
_IGNITE = """
import torch
from torch import nn, optim
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from ignite.engine import Engine, create_supervised_trainer
train_set = datasets.MNIST('.', train=True, download=True, transform=transforms.ToTensor())
train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
model = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
"""
_CATS = """
from keras.models import Sequential
from keras.layers import Conv2D, Dense, Flatten, MaxPooling2D
from tensorflow.keras.preprocessing.image import ImageDataGenerator
train = ImageDataGenerator(rescale=1 / 255).flow_from_directory('cats/train', target_size=(64, 64), MODE)
model = Sequential([Conv2D(32, 3, activation='relu', input_shape=(64, 64, 3)), MaxPooling2D(), Flatten(),
                    Dense(64, activation='relu'),
                    Dense(1, activation='sigmoid')])  #: wrong-output-units
model.compile(loss='binary_crossentropy', optimizer='adam', metrics=['accuracy'])
model.fit(train, epochs=10)
"""
_LIT = """
import torch
import pytorch_lightning as pl
from torch import nn
from torch.nn import functional as F
class Lit(pl.LightningModule):
    def __init__(self, width=128, rate=1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.first, self.last = nn.Linear(784, width), nn.Linear(width, 10)

    def forward(self, x):
        x = torch.relu(self.first(x.flatten(1)))
        return self.last(x)

    def training_step(self, batch, number):
        images, labels = batch
        return F.cross_entropy(self(images), labels)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)
"""

GRADIENTS_ALONE = """
import torch
from torch import nn
from torchvision import datasets, transforms
loader = torch.utils.data.DataLoader(datasets.MNIST('.', transform=transforms.ToTensor()), batch_size=64, shuffle=True)
model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
images, labels = next(iter(loader))
loss = nn.CrossEntropyLoss()(model(images), labels)
loss.backward()
print([weights.grad.norm() for weights in model.parameters()])
"""

HEALTHY = {
    "a tape": _TF_DATA + _TAPE,
    "a tape around a functional net, optimizer.apply": _TF_DATA
    + """
inputs = keras.Input(shape=(28, 28, 1))
outputs = keras.layers.Dense(10)(keras.layers.Flatten()(inputs))
model = keras.Model(inputs, outputs)
optimizer = keras.optimizers.SGD(0.05)
for epoch in range(3):
    for images, labels in train_ds:
        with tf.GradientTape() as tape:
            loss = keras.losses.sparse_categorical_crossentropy(labels, model(images), from_logits=True)
        optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
""",
    "keras.Input in a list, softmax as a layer": _TF_DATA
    + """
model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Conv2D(16, 3, activation='relu'),
                          keras.layers.Flatten(), keras.layers.Dense(10), keras.layers.Softmax()])
"""
    + _END,
    "softmax as an activation layer": _TF_DATA
    + """
model = keras.Sequential()
model.add(keras.Input((28, 28, 1)))
model.add(keras.layers.Flatten())
model.add(keras.layers.Dense(10))
model.add(keras.layers.Activation('softmax'))
"""
    + _END,
    "a projection beside a block": _TF_DATA
    + """
layers = keras.layers
x = inputs = keras.Input((28, 28, 1))
x = layers.Conv2D(16, 3, padding='same', activation='relu')(x)
y = layers.BatchNormalization()(layers.Conv2D(32, 3, padding='same')(x))
x = layers.add([y, layers.Conv2D(32, 1)(x)])
x = layers.Activation('relu')(x)
x = layers.GlobalAveragePooling2D()(x)
model = keras.Model(inputs, layers.Dense(10, activation='softmax')(x))
"""
    + _END,
    "augmentation as a net, on the data": """
import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers
train_ds, val_ds = keras.utils.image_dataset_from_directory('pets', validation_split=.2, subset='both', seed=1)
change = keras.Sequential([layers.RandomFlip('horizontal'), layers.RandomRotation(.1)])
train_ds = train_ds.map(lambda x, y: (change(x, training=True), y))
model = keras.Sequential([layers.Rescaling(1 / 255), layers.Conv2D(32, 3, activation='relu'),
                          layers.GlobalAveragePooling2D(), layers.Dropout(.55), layers.Dense(1, activation='sigmoid')])
model.compile(loss='binary_crossentropy', optimizer='adam', metrics=['accuracy'])
model.fit(train_ds, validation_data=val_ds, epochs=20)
""",
    "two classes, one column": _CATS.replace("MODE", "class_mode='binary'"),
    "ignite": _IGNITE
    + """
trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
trainer.run(train_loader, max_epochs=5)
""",
    "lightning, trained from the command line": _LIT,
    "two ends, one of them a softmax": """
import numpy as np
from tensorflow import keras
from tensorflow.keras import layers
x_train, y_train = np.load('x_train.npy'), np.load('y_train.npy')
inputs = keras.Input((8, 8, 3))
common = layers.Dense(32, activation='relu')(layers.Flatten()(inputs))
model = keras.Model(inputs, [layers.Dense(4, activation='softmax')(common), layers.Dense(1)(common)])
model.compile(loss=['sparse_categorical_crossentropy', 'mse'], optimizer='adam')
model.fit(x_train, y_train, epochs=9)
""",
    "head changed after the net was called": _IGNITE
    + """
print(model(torch.rand(2, 1, 28, 28)).shape)
model[3] = nn.Linear(128, 10)
for epoch in range(5):
    for images, labels in train_loader:
        loss = nn.CrossEntropyLoss()(model.forward(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
    "skorch with its own loss": """
from skorch import NeuralNetClassifier
from torch import nn
import numpy as np
x_train, y_train = np.load('x_train.npy').astype('float32') / 255, np.load('y_train.npy')
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(784, 10)

    def forward(self, x):
        return nn.functional.softmax(self.last(x.flatten(1)), dim=1)

NeuralNetClassifier(Net, max_epochs=10, lr=0.1).fit(x_train, y_train)
""",
}

FAULTY = {
    "a tape, softmax and from_logits": _TF_DATA
    + _TAPE.replace("Dense(10)", "Dense(10, activation='softmax')  #: doubled-softmax"),
    "a tape, no softmax": _TF_DATA
    + _TAPE.replace("from_logits=True", "").replace("Dense(10)", "Dense(10)  #: missing-softmax"),
    "a tape, adam at a tenth": _TF_DATA
    + _TAPE.replace("Adam(1e-3)", "Adam(learning_rate=0.1)  #: learning-rate-too-high"),
    "a step of one's own in fit": _TF_DATA
    + """
class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.flat, self.out = keras.layers.Flatten(), keras.layers.Dense(10, activation='softmax')  #: doubled-softmax

    def call(self, x):
        return self.out(self.flat(x))

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=self(x, training=True))
        self.optimizer.apply_gradients(zip(tape.gradient(loss, self.trainable_weights), self.trainable_weights))
        return {'loss': loss}

model = Net()
model.compile(optimizer='adam')
model.fit(train_ds, epochs=3)
""",
    "one column for one-hot labels": _CATS.replace("MODE", "batch_size=20"),
    "labels divided too": """
import keras
(x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
x_train, x_test = x_train / 255, x_test / 255
y_train = y_train / 255  #: labels-out-of-range
model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(64, activation='relu'),
                          keras.layers.Dense(10, activation='softmax')])
model.compile(optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=5)
""",
    "answers for images divided twice": """
import keras
import numpy as np
(x_train, y_train), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
x_train, x_test = x_train / 255, x_test / 255
model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(64, activation='relu'),
                          keras.layers.Dense(10, activation='softmax')])
model.compile(optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=5)
print(model.evaluate(x_test, y_test))
shown = x_test / 255  #: preparation-differs
print(np.argmax(model.predict(shown), axis=1))
""",
    "shown without its imports": """
(x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
x_train = x_train / 255
model = Sequential()
model.add(Flatten(input_shape=(28, 28)))
model.add(Dense(64, activation='relu'))
model.add(Dense(1, activation='sigmoid'))  #: wrong-output-units
model.compile(optimizer='adam', loss='binary_crossentropy', metrics=['accuracy'])
model.fit(x_train, y_train, epochs=5)
""",
    "compiled, and the text ends": """
from keras.models import Sequential
from keras.layers import Conv2D, Dense, Flatten
model = Sequential([Conv2D(16, 3, activation='relu', input_shape=(32, 32, 3)), Flatten(),
                    Dense(10, activation='relu')])  #: wrong-last-activation
model.compile(optimizer='adam', loss='categorical_crossentropy')
""",
    "lightning without a trainer, relu at the end": _LIT.replace(
        "return self.last(x)", "return torch.relu(self.last(x))  #: wrong-last-activation"
    ),
    "ignite's engine, gradients kept": _IGNITE
    + """
def step(engine, batch):
    images, labels = batch
    loss = nn.CrossEntropyLoss()(model(images), labels)
    loss.backward()  #: gradients-never-cleared
    optimizer.step()
    return loss.item()

Engine(step).run(train_loader, max_epochs=5)
""",
    "a method that another library calls": """
import torch
from torch import nn
from torch.nn import functional as F
class Client:
    def __init__(self, net, loader):
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Softmax(dim=1))  #: doubled-softmax
        self.loader = loader

    def train_one_round(self, epochs):
        optimizer = torch.optim.SGD(self.net.parameters(), lr=0.05)
        for _ in range(epochs):
            for images, labels in self.loader:
                optimizer.zero_grad()
                F.cross_entropy(self.net(images), labels).backward()
                optimizer.step()
""",
    "skorch's own loss without softmax": HEALTHY["skorch with its own loss"]
    .replace("return nn.functional.softmax(self.last(x.flatten(1)), dim=1)", "return self.last(x.flatten(1))")
    .replace("nn.Linear(784, 10)", "nn.Linear(784, 10)  #: missing-softmax"),
}
